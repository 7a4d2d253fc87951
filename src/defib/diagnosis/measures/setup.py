"""How a run was set up, as plain pairs of names and values, and where two runs differ in that."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from defib.core.comparison import SettingChange
from defib.core.run import RunView
from defib.core.wiring import Layer

_VERSIONS = ("torch", "python", "defib")
_GROUP_SIZE = "parameters"
Key = tuple[str, str]


def setting_changes(before: RunView, after: RunView) -> tuple[SettingChange, ...]:
    """Every setting in which two runs differ.

    Args:
        before: The first run.
        after: The second.

    Returns:
        Script, versions, optimisers, loss, batch, then layers, in the order of their listing.
    """
    if before is after:
        return ()
    old, new = dict(_settings(before)), dict(_settings(after))
    gone = {what for what, _ in old} - {what for what, _ in new}
    come = {what for what, _ in new} - {what for what, _ in old}
    found = []
    for key in dict.fromkeys([*old, *new]):
        # Of a layer or an optimiser that one run lacks, its kind says it all.
        alone = key[0] in gone | come and key[1] != "kind" and key[0].startswith(("layer ", "optimizer "))
        if not alone and old.get(key) != new.get(key):
            found.append(SettingChange(what=key[0], name=key[1], before=old.get(key), after=new.get(key)))
    return tuple(found)


def _settings(run: RunView) -> Iterator[tuple[Key, Any]]:
    """All that is compared, JSON-able."""
    facts = run.facts
    yield ("script", "target"), facts.get("target")
    yield ("script", "arguments"), " ".join(map(str, facts.get("arguments") or ())) or None
    for name in _VERSIONS:
        yield ("versions", name), facts.get(name)
    yield from _optimizers(run)
    yield ("loss", "operations"), " > ".join(run.loss_operations) or None
    yield ("batch", "samples"), _batch(run)
    yield ("network", "layers"), len(run.layers)
    for layer in run.layers:
        yield from _layer(layer)
    for wiring in run.wirings:
        call = f"#{wiring.site.call}" if wiring.site.call else ""
        yield (f"layer {wiring.site.path}{call}", "activation"), wiring.activation
        for name, value in wiring.options.items():
            yield (f"layer {wiring.site.path}{call}", f"activation {name}"), value


def _optimizers(run: RunView) -> Iterator[tuple[Key, Any]]:
    for optimizer in run.optimizers:
        what = f"optimizer {optimizer.index}"
        yield (what, "kind"), optimizer.kind
        if len(optimizer.lr):
            yield (what, "lr at the first step"), round(float(optimizer.lr.values[0]), 9)
        for number, group in enumerate(optimizer.groups):
            part = f" of group {number}" if len(optimizer.groups) > 1 else ""
            for name, value in group.items():
                own = "tensors" if name == _GROUP_SIZE else name
                yield (what, f"{own}{part}"), list(value) if isinstance(value, tuple) else value


def _layer(layer: Layer) -> Iterator[tuple[Key, Any]]:
    what = f"layer {layer.path}"
    yield (what, "kind"), layer.kind
    yield (what, "units"), layer.units
    yield (what, "frozen"), layer.frozen
    yield (what, "formats"), ", ".join(dict.fromkeys(layer.dtypes)) or None


def _batch(run: RunView) -> int | None:
    """Samples a step, the median; None if unknown."""
    if run.objective is None or "samples" not in run.objective.columns:
        return None
    samples = run.objective.columns["samples"]
    samples = samples[np.isfinite(samples)]
    return int(np.median(samples)) if len(samples) else None
