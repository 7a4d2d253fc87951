"""How much of a run was seen."""

import numpy as np

from defib.core.coverage import Coverage
from defib.core.evidence import Unseen
from defib.core.run import RunView
from defib.core.wiring import Layer
from defib.diagnosis.measures.stability import not_measured


def coverage(run: RunView) -> Coverage:
    """Counts what was observed and names what was not, with a reason for each.

    A layer counts as observed if its gradients were read, or its activation, and nothing
    kept its inside from being seen: a compiled one is not observed, whatever its gradients say.

    Returns:
        The coverage; layers that nobody gave a reason for get one here.
    """
    read = layers_read(run)
    given = {u.what: u for u in run.unseen}
    missing = []
    observed = 0
    for layer in run.layers:
        if layer.path in given:
            continue
        if layer.path in read:
            observed += 1
        else:
            missing.append(Unseen(what=layer.path, why=_reason(run, layer)))
    windows = {(r.first, r.last) for r in run.readings}
    samples: dict[tuple[object, object], int] = {}
    for reading in run.readings:
        key = (reading.site, reading.signal)
        samples[key] = samples.get(key, 0) + reading.samples
    return Coverage(
        layers=len(run.layers),
        observed=observed,
        not_observed=(*run.unseen, *not_measured(run), *missing),
        steps=run.steps,
        readings=max(len(run.flow_steps), len(windows)),
        samples=max(samples.values(), default=0),
    )


def layers_read(run: RunView) -> set[str]:
    """Paths of the layers of which something was read, if only their gradients."""
    read = {path for path, live in run.liveness.items() if live.steps > 0}
    read |= {r.site.path for r in run.readings if r.samples > 0}
    if run.norms is not None and len(run.norms.steps):
        gradient = run.norms.gradient
        names = {n for i, n in enumerate(run.norms.parameters) if not np.isnan(gradient[:, i]).all()}
        read |= {layer.path for layer in run.layers if names & set(layer.parameters)}
    return read


def _reason(run: RunView, layer: Layer) -> str:
    """Why nothing is known of a layer."""
    if layer.frozen:
        return "frozen: none of its parameters requires a gradient"
    if run.steps == 0:
        return "no optimiser step was seen"
    if layer.optimizer < 0:
        return "no optimiser that was seen owns its parameters"
    return "it never received a gradient"
