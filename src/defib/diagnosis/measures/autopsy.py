"""What a death looked like: its step, and the update that came right before it.

A unit that got its last gradient on step t was alive when the forward pass of
step t ran, and was silent in that of step t + 1. All that changed in between is
the update of step t, so that update is the killing one: this is exact wherever
the gradient is read on every step, with momentum and weight decay included.

How large that update was is known only if step t happened to be sampled; if it
was not, the autopsy says so and gives the usual size alone.

Letters: ``U`` units, ``R`` readings, ``P`` parameters.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defib.core.cause import Cause
from defib.core.evidence import Evidence
from defib.core.inference import rate_bound
from defib.core.optimizer import Optimizer
from defib.core.run import RunView
from defib.core.series import Series
from defib.diagnosis.measures.deaths import Deaths

Mask = NDArray[np.bool_]
Array = NDArray[np.float64]

_WINDOW = 50
"""Steps before the killing update that say what is usual."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large something was at the killing update, and how large it usually is.

    Attributes:
        there: At that very step; NaN if it was not read then.
        usual: Median of the steps before it (of all others, if none was read before); NaN if unknown.
    """

    there: float
    usual: float

    @property
    def ratio(self) -> float:
        """How many times the usual; NaN if either is unknown or the usual is 0."""
        return self.there / self.usual if self.usual > 0 else float("nan")


@dataclass(frozen=True, kw_only=True)
class Autopsy:
    """The update before a death.

    Attributes:
        step: The step whose update killed.
        update: Norm of the change of the layer's parameters.
        gradient: Norm of their gradient.
        lr: Learning rate.
        loss: Loss of that step.
        after: Loss of the step after it, the first in silence; NaN if unknown.
    """

    step: int
    update: Size
    gradient: Size
    lr: Size
    loss: Size
    after: float

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The numbers; what was not read at that very step is said to be so."""
        found = [Evidence(name="killing update", value=self.step, unit="step")]
        for name, size, unit in (
            ("learning rate at the killing update", self.lr, "1"),
            ("loss at the killing update", self.loss, "loss"),
            ("size of the killing update, all tensors of the layer", self.update, "norm"),
            ("gradient norm of the layer at the killing update", self.gradient, "norm"),
        ):
            if np.isnan(size.there) and np.isnan(size.usual):
                continue
            value: float | str = size.there if not np.isnan(size.there) else "not observed"
            found.append(Evidence(name=name, value=value, unit=unit))
            if not np.isnan(size.usual):
                found.append(Evidence(name=f"{name}: usual", value=size.usual, unit=unit))
            if np.isfinite(size.ratio):
                found.append(Evidence(name=f"{name}: times the usual", value=size.ratio))
        if not np.isnan(self.after):
            found.append(Evidence(name="loss at the first silent step", value=self.after, unit="loss"))
        return tuple(found)


def autopsy(run: RunView, paths: tuple[str, ...], died: int) -> Autopsy | None:
    """What is known of the update that came right before the step ``died``.

    Args:
        run: The run.
        paths: The layer and the modules between it and its activation.
        died: First step without gradient.

    Returns:
        The autopsy; None for a unit that never lived, since no update killed it.
    """
    if died <= 0:
        return None
    step = died - 1
    optimizer = _owner(run, paths)
    empty = Series.empty()
    lr, loss = (optimizer.lr, optimizer.loss) if optimizer is not None else (empty, empty)
    names = {name for layer in run.layers if layer.path in paths for name in layer.parameters}
    return Autopsy(
        step=step,
        update=_norm(run, names, step, "update"),
        gradient=_norm(run, names, step, "gradient"),
        lr=_size(lr.steps, lr.values, step),
        loss=_size(loss.steps, loss.values, step),
        after=_size(loss.steps, loss.values, died).there,
    )


def _owner(run: RunView, paths: tuple[str, ...]) -> Optimizer | None:
    """The optimiser that steps a layer; the first one if that is unknown."""
    owners = {layer.optimizer for layer in run.layers if layer.path in paths and layer.optimizer >= 0}
    index = min(owners, default=0)
    return next((o for o in run.optimizers if o.index == index), None)


def _norm(run: RunView, names: set[str], step: int, what: str) -> Size:
    """The size of update or gradient over all of those parameters together."""
    norms = run.norms
    columns = [i for i, n in enumerate(norms.parameters) if n in names] if norms is not None else []
    if norms is None or not columns:
        return Size(there=float("nan"), usual=float("nan"))
    parts: Array = getattr(norms, what)[:, columns]
    known = ~np.isnan(parts).all(axis=1)
    together = np.sqrt(np.nansum(parts[known] ** 2, axis=1))
    return _size(norms.steps[known], together, step)


def _size(steps: NDArray[np.int64], values: Array, step: int) -> Size:
    """A number at one step, and the median of those before it."""
    here = values[steps == step]
    before = values[(steps < step) & np.isfinite(values)][-_WINDOW:]
    others = before if len(before) else values[(steps != step) & np.isfinite(values)]
    return Size(
        there=float(here[0]) if len(here) else float("nan"),
        usual=float(np.median(others)) if len(others) else float("nan"),
    )


def worst(died: NDArray[np.int64]) -> tuple[int, int]:
    """The step on which most units died, and how many."""
    steps, counts = np.unique(died, return_counts=True)
    return int(steps[np.argmax(counts)]), int(counts.max())


def census(layer: Deaths, units: Mask) -> tuple[Evidence, ...]:
    """The numbers about the deaths themselves, for some of a layer's dead units."""
    died = layer.died[units]
    step, most = worst(died)
    samples = float(layer.samples[units].min())
    period = layer.liveness.period
    numbers = [
        Evidence(name="dead share of the layer", value=round(float(layer.dead.mean()), 6)),
        Evidence(name="first death", value=int(died.min()), unit="step"),
        Evidence(name="median death", value=float(np.median(died)), unit="step"),
        Evidence(name="last death", value=int(died.max()), unit="step"),
        Evidence(name="deaths at the worst step", value=most, unit="units"),
        Evidence(name="worst step", value=step, unit="step"),
        Evidence(name="fewest silent samples", value=samples, unit="samples"),
        Evidence(name="firing rate below (95 %)", value=rate_bound(samples)),
    ]
    if period > 1:
        numbers.append(Evidence(name="the step of death is known to within", value=period, unit="steps"))
    return tuple(numbers)


def sentence(cause: Cause, number: int, total: int, path: str, died: NDArray[np.int64]) -> str:
    """What is said of some dead units of a layer."""
    who = f"{number} of {total} units of {path or 'the model'}"
    step, most = worst(died)
    if cause is Cause.BORN_DEAD:
        return f"{who} never fired for any sample, from the first step on"
    if cause is Cause.DEAD_INPUT:
        return f"{who} are dead because everything that feeds them is dead"
    if most == number:
        return f"{who} went silent for every sample at step {step} and stayed silent"
    return f"{who} went silent for every sample and stayed silent, {most} of them at step {step}"
