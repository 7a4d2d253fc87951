"""Time to unstick of a finding's saturated units, from the readings of the run.

Letters: ``U`` units.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defib.core.finding import Finding
from defib.core.optimizer import Optimizer
from defib.core.prognosis import Mechanism, Outlook, Prognosis
from defib.core.run import RunView
from defib.core.site import Signal, Site
from defib.core.tally import Tally, merge
from defib.core.wiring import Wiring
from defib.diagnosis.prognosis.arithmetic import Exact
from defib.diagnosis.prognosis.unstick import (
    OUT,
    Normaliser,
    prognose_saturated,
    steps_to_unstick,
    steps_to_unstick_normalised,
)


@dataclass(frozen=True, kw_only=True)
class _Signals:
    """What drives the units of a layer, shape (U,) each."""

    preactivation: NDArray[np.float64]
    error: NDArray[np.float64]
    input_square: float
    features: float
    samples: int


_NORMALISED = frozenset({"Adam", "AdamW", "RAdam", "RMSprop", "Adamax"})
"""Optimisers that divide each gradient by its own running size; not NAdam, whose beta_1 changes all along."""


def saturated_prognoses(run: RunView, finding: Finding) -> tuple[Prognosis, ...]:
    """Whether the saturated units of a finding come free by themselves, as far as that can be estimated.

    The budget is as many steps again as the run took.

    Args:
        run: The run.
        finding: About saturated units.

    Returns:
        Prognoses; one that says why nothing can be told where that is so.
    """
    site = Site(path=finding.layer, call=finding.call)
    wiring = run.wiring(site)
    optimizer = next((o for o in run.optimizers if _owns(o, run, finding.layer)), None)
    why = _why_not(wiring, optimizer)
    signals = None if why or wiring is None else _signals(run, wiring)
    if wiring is None or optimizer is None or signals is None:
        return (_unknown(run, finding, why or "the error and the inputs of its units were not read"),)
    units = np.array(finding.units, dtype=np.int64)
    steps = _steps(wiring, optimizer, signals, units)
    return prognose_saturated(
        finding.layer,
        finding.units,
        steps,
        as_of=run.steps,
        samples=signals.samples,
        budget=max(1, run.steps),
    )


def _steps(wiring: Wiring, optimizer: Optimizer, signals: _Signals, units: NDArray[np.int64]) -> Exact:
    """Steps until they are free, by the law of their optimiser."""
    z, error, dtype = signals.preactivation[units], signals.error[units], wiring.dtype or "float32"
    if optimizer.kind in _NORMALISED:
        return steps_to_unstick_normalised(
            wiring.activation,
            z,
            _normaliser(optimizer),
            error=error,
            features=signals.features,
            input_square=signals.input_square,
            dtype=dtype,
        )
    return steps_to_unstick(
        wiring.activation,
        z,
        lr=effective_rate(optimizer),
        error=error,
        input_square=signals.input_square,
        dtype=dtype,
    )


def _normaliser(optimizer: Optimizer) -> Normaliser:
    """The settings of one of :data:`_NORMALISED`; with RMSprop's momentum its rate in the long run."""
    group = optimizer.groups[0] if optimizer.groups else {}
    mean, size = group.get("betas", (0.0, float(group.get("alpha", 0.99))))
    return Normaliser(
        lr=float(group.get("lr", 0.0)) / max(1 - float(group.get("momentum", 0.0)), 1e-12),
        mean=float(mean),
        size=float(size),
        eps=float(group.get("eps", 1e-8)),
        largest=optimizer.kind == "Adamax",
    )


def effective_rate(optimizer: Optimizer) -> float:
    """Learning rate of SGD with momentum in the long run: lr (1 - dampening) / (1 - momentum)."""
    group = optimizer.groups[0] if optimizer.groups else {}
    momentum, dampening = float(group.get("momentum", 0.0)), float(group.get("dampening", 0.0))
    if momentum == 0.0:  # then torch ignores the dampening
        return float(group.get("lr", 0.0))
    return float(group.get("lr", 0.0)) * (1 - dampening) / max(1 - momentum, 1e-12)


def _owns(optimizer: Optimizer, run: RunView, path: str) -> bool:
    layer = run.layer(path)
    return layer is not None and bool(set(layer.parameters) & set(optimizer.parameters))


def _why_not(wiring: Wiring | None, optimizer: Optimizer | None) -> str:
    """Why no time can be given; "" if it can."""
    if wiring is None or wiring.activation not in OUT:
        return "the time to leave saturation is known for sigmoid and tanh only"
    if wiring.normalised:
        return "a normalisation layer makes its pre-activation"
    if optimizer is None:
        return "no optimiser moves it"
    if optimizer.kind != "SGD" and optimizer.kind not in _NORMALISED:
        return f"the time to leave saturation is not known for {optimizer.kind}"
    if any(group.get("amsgrad") for group in optimizer.groups):
        return "AMSGrad divides by the largest gradient that it ever saw, which the record does not hold"
    return ""


def _signals(run: RunView, wiring: Wiring) -> _Signals | None:
    """The newest readings; None where one of them is missing."""
    z = _late(run, wiring.site, Signal.PREACTIVATION)
    error = _late(run, wiring.site, Signal.ACTIVATION_GRAD)
    square, features = _inputs(run, wiring)
    live = run.liveness.get(wiring.site.path)
    batch = live.batch if live is not None else 0.0
    if z is None or error is None or not np.isfinite(square) or z.units != error.units or batch <= 0:
        return None
    entries = error.count / max(error.samples, 1)  # positions of a sequence add up as samples do
    with np.errstate(invalid="ignore", divide="ignore"):
        typical = np.sign(z.mean) * np.sqrt(z.squares / z.finite)
        pull = np.abs(error.mean) * entries * batch
    return _Signals(
        preactivation=typical, error=pull, input_square=square, features=features, samples=z.samples
    )


def _late(run: RunView, site: Site, signal: Signal) -> Tally | None:
    """The later half of a signal's readings, merged."""
    readings = run.at(site, signal)
    return merge(r.tally for r in readings[len(readings) // 2 :])


def _inputs(run: RunView, wiring: Wiring) -> tuple[float, float]:
    """Mean of |h|^2 over the samples, h what feeds the layer, and its length; nan if it was not read."""
    if wiring.inputs:
        tallies = [_late(run, site, Signal.ACTIVATION) for site in wiring.inputs]
        known = [t for t in tallies if t is not None]
        if len(known) < len(tallies):
            return np.nan, np.nan
        square = sum(float((t.squares / np.maximum(t.finite, 1)).sum()) for t in known)
        return square, float(sum(t.units for t in known))
    objective = run.objective
    if objective is None or objective.input_layer != wiring.site.path:
        return np.nan, np.nan
    features = objective.last("input_features")
    square = features * (objective.last("input_mean") ** 2 + objective.last("input_std") ** 2)
    return square, features


def _unknown(run: RunView, finding: Finding, why: str) -> Prognosis:
    return Prognosis(
        path=finding.layer,
        units=finding.units,
        outlook=Outlook.UNKNOWN,
        mechanism=Mechanism.NOTHING,
        reason=why,
        as_of=run.steps,
        samples=0,
        exact=False,
    )
