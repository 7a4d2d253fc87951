"""What a record kept about dead units, as doses: how far they are from firing, and what feeds them.

Letters: ``U`` units, ``N`` samples, ``D`` features.
"""

from collections.abc import Sequence

import numpy as np

from defib.core.finding import Finding
from defib.core.kill import EXHIBIT, LayerKill
from defib.core.remains import Remains
from defib.core.remains_exhibit import KIND, recover
from defib.core.run import RunView
from defib.core.site import Signal, Site

MOST = 4096
"""Longest list of numbers that is put into a dose."""


def remains_of(run: RunView, paths: Sequence[str]) -> Remains | None:
    """What is left of a layer's dead units, as last kept.

    Args:
        run: The run.
        paths: The layer, by any of the names on the way to its activation.

    Returns:
        The remains; None if nothing was kept.
    """
    kept = [e for e in run.exhibits if e.kind == KIND and e.path in paths]
    try:
        return recover(kept[-1]) if kept else None
    except ValueError:
        return None  # of another version


def features_mean(run: RunView, path: str) -> tuple[float, ...]:
    """Mean of each feature that feeds a layer, shape (D,); empty if it was not kept, or is too long."""
    found = remains_of(run, (path,))
    if found is None or not 0 < found.features.shape[1] <= MOST or not len(found.features):
        return ()
    return tuple(float(f"{v:.6g}") for v in np.asarray(found.features, dtype=np.float64).mean(axis=0))


def death_free(run: RunView, finding: Finding) -> float:
    """Times less than this, the step that killed most of a finding's units kills none; inf if unknown."""
    paths = (finding.layer, *finding.modules)
    kills = [
        LayerKill.from_exhibit(e.facts, e.arrays)
        for e in run.exhibits
        if e.kind == EXHIBIT and e.path in paths
    ]
    if not kills or not finding.units:
        return float("inf")
    return max(kills, key=lambda kill: len(set(kill.units.tolist()) & set(finding.units))).factor


def rises(
    run: RunView, path: str, modules: Sequence[str], units: Sequence[int], share: float
) -> tuple[float, ...]:
    """By how much each unit's bias has to rise for it to fire on a share of the samples.

    From the samples that were kept with the dead units; else from an autopsy; else from the largest
    pre-activation that was read, and a twentieth of its range.

    Args:
        run: The run.
        path: The layer.
        modules: The layers on the way to the activation.
        units: Which units.
        share: Share of the samples on which they are to fire.

    Returns:
        One number for each unit, larger than 0; empty if nothing tells.
    """
    for look in (_by_samples, _by_autopsy, _by_readings):
        found = look(run, (path, *modules), units, share)
        if all(u in found for u in units):
            return tuple(float(f"{found[u]:.6g}") for u in units)
    return ()


def _by_samples(run: RunView, paths: Sequence[str], units: Sequence[int], share: float) -> dict[int, float]:
    """Half-way between the last sample that is to fire and the first that is not."""
    kept = remains_of(run, paths)
    if kept is None or len(kept.features) < 2:
        return {}
    features = np.asarray(kept.features, dtype=np.float64)
    weights = [p for p in kept.parts if p.name != "bias"]
    biases = [p for p in kept.parts if p.name == "bias"]
    if sum(p.values.shape[1] for p in weights) != features.shape[1]:
        return {}
    rows = np.concatenate([np.asarray(p.values, dtype=np.float64) for p in weights], axis=1)
    bias = np.asarray(biases[0].values, dtype=np.float64)[:, 0] if biases else np.zeros(len(rows))
    height = np.sort(features @ rows.T + bias - kept.threshold, axis=0)[::-1]  # (N, U), highest first
    last = max(1, round(share * len(features)))
    wanted = -(height[last - 1] + height[min(last, len(height) - 1)]) / 2
    places = {int(unit): i for i, unit in enumerate(kept.units)}
    return {u: _up(float(wanted[places[u]])) for u in units if u in places and wanted[places[u]] > 0}


def _by_autopsy(run: RunView, paths: Sequence[str], units: Sequence[int], share: float) -> dict[int, float]:
    """What the autopsy said would do, and a twentieth of it on top."""
    del share
    found: dict[int, float] = {}
    for exhibit in run.exhibits:
        if exhibit.kind == EXHIBIT and exhibit.path in paths:
            kill = LayerKill.from_exhibit(exhibit.facts, exhibit.arrays)
            found |= {int(u): _up(1.05 * float(r)) for u, r in zip(kill.units, kill.bias_raise, strict=True)}
    return {u: rise for u, rise in found.items() if u in units and rise > 0}


def _by_readings(run: RunView, paths: Sequence[str], units: Sequence[int], share: float) -> dict[int, float]:
    """From the highest pre-activation of the second half of the readings."""
    for path in paths:
        readings = run.at(Site(path=path, call=0), Signal.PREACTIVATION)
        tally = readings[-1].tally if readings else None
        if tally is None or max(units, default=0) >= tally.units:
            continue
        reach = -tally.high + share * (tally.high - tally.low)
        return {u: _up(float(reach[u])) for u in units if np.isfinite(reach[u]) and reach[u] > 0}
    return {}


def _up(value: float) -> float:
    """A little more than 0 even where the unit sits on its edge."""
    return max(value, 1e-6)
