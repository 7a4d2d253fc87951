"""How large the steps were: against the weights, and against the way they covered.

Letters: ``R`` readings, ``P`` parameters.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defib.core.evidence import Evidence
from defib.core.optimizer import Norms
from defib.core.run import RunView

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pace:
    """The steps of a run.

    Attributes:
        steps: Sampled steps at which both sizes are finite, shape (R,).
        ratio: Size of the update over that of the weights, all tensors together, shape (R,).
        moved: Sum of that ratio over all steps of the run: how far the weights moved at most, in
            units of their own size.
        straight: Way covered over way walked: 1 if every update points the same way, about
            1 / sqrt(steps) if they are random; NaN if unknown. From the distance of all weights from
            where they began; in records without it, from the tensors that began at zero.
    """

    steps: NDArray[np.int64]
    ratio: Array
    moved: float
    straight: float

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The numbers."""
        found = [
            Evidence(name="update over weights, median of the steps", value=float(np.median(self.ratio))),
            Evidence(name="update over weights, largest", value=float(np.max(self.ratio))),
            Evidence(name="way walked in the whole run over the size of the weights", value=self.moved),
        ]
        if np.isfinite(self.straight):
            found.append(Evidence(name="way covered over way walked", value=self.straight))
        return tuple(found)


def pace(run: RunView) -> Pace | None:
    """The steps of a run; None if fewer than one was measured or all weights are zero."""
    norms = run.norms
    if norms is None or not len(norms.steps):
        return None
    trained = np.isfinite(norms.gradient).any(axis=0)
    update, weight = norms.update[:, trained], norms.weight[:, trained]
    finite = np.isfinite(update).all(axis=1) & np.isfinite(weight).all(axis=1)
    usable = np.asarray(finite & (weight > 0).any(axis=1), dtype=np.bool_)
    if not usable.any():
        return None
    steps = norms.steps[usable]
    with np.errstate(over="ignore"):
        ratio = np.sqrt((update[usable] ** 2).sum(axis=1) / (weight[usable] ** 2).sum(axis=1))
    whole = _straight_way(run, steps, np.sqrt((update[usable] ** 2).sum(axis=1)), weight[usable][0])
    return Pace(
        steps=steps,
        ratio=ratio,
        moved=_integral(steps, ratio, run.steps),
        straight=whole if np.isfinite(whole) else _straightness(norms, steps, usable),
    )


def _straight_way(run: RunView, steps: NDArray[np.int64], update: Array, start: Array) -> float:
    """Way covered over way walked, all weights together; NaN where either is unknown.

    Args:
        run: The run; of several optimisers no way is that of all weights.
        steps: Sampled steps, shape (R,).
        update: Size of the update on each, shape (R,).
        start: Sizes of the tensors on the first, shape (P,).

    Returns:
        The share, 1 at most.
    """
    if len(run.optimizers) != 1 or len(steps) < 3:
        return float("nan")
    away = run.optimizers[0].displacement
    known = np.isfinite(away.values) & (away.steps > steps[0])
    if not known.any():
        return float("nan")
    step, covered = int(away.steps[known][-1]), float(away.values[known][-1])
    if step < run.steps / 2:  # the first steps of a run all go the same way
        return float("nan")
    before = steps < step
    walked = _integral(steps[before], update[before], step)
    size = float(np.sqrt((start**2).sum()))
    return min(covered * size / walked, 1.0) if walked > 0 else float("nan")


def _integral(steps: NDArray[np.int64], values: Array, end: int) -> float:
    """Sum over all steps up to ``end`` of a number that was sampled on some."""
    gaps = np.diff(np.append(steps, max(end, int(steps[-1]) + 1)))
    return float((values * gaps).sum())


def _straightness(norms: Norms, steps: NDArray[np.int64], usable: NDArray[np.bool_]) -> float:
    """Way covered over way walked, for tensors that began at zero: their norm is the way covered."""
    weight, update = norms.weight[usable], norms.update[usable]
    if len(steps) < 3:
        return float("nan")
    shares = []
    for i in np.flatnonzero((weight[0] == 0) & (weight[-1] > 0)):
        walked = _integral(steps[:-1], update[:-1, i], int(steps[-1]))
        if walked > 0:
            shares.append(min(float(weight[-1, i]) / walked, 1.0))
    return float(np.median(shares)) if shares else float("nan")
