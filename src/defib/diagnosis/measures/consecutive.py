"""What the next gradient says about the last step: overshoot, and signal in the gradient's noise.

g is the gradient of step t on its own batch, d the step, g' the gradient of step t + 1 on
another batch. Along the line of the step the loss is, to second order, a parabola whose
slope is <g, d> at its start and <g', d> at its end:

    overshoot  O = 1 - <g', d> / <g, d>

is the length of the step in units of the way to the parabola's lowest point: 1 lands on it, 2 as
high on the other side. No learning rate, preconditioner or momentum enters. With full batches
and plain gradient descent O = lr c, where c = <g' - g, d> / <d, d> is the curvature along the step.

Different batches: where they are drawn independently, <g', d> is on average the slope of the
true loss, for d is fixed when g' is drawn. d was drawn with g, so <g, d> is steeper than the true
slope by the noise's own share r (0 for full batches, 1 where there is nothing but noise). For
plain gradient descent O = r + lr c with the true curvature c: the true product lies between O - 1 and
O, and the true overshoot is never below O.

Batches that take turns are not independent: the noise of two halves of the data is exactly
opposite. A shuffle before each of K batches an epoch gives a mean cosine of -1 / K at worst, and an O of
1 + 1 / K; a fixed order anything up to an O of 2. The pairs are weighted by 1 / (|g'| |d|), so that
noise alone cannot give more, whatever its sizes: the mean of |g| / |g'| is at least 1 where
they do not shrink. So an O above 2 is overshoot for certain, and between 1 and 2 it is where
every step has the same data.

The mean of cos(g, g') is, where steps are small (lr c much below 1) and batches independent, the
share of the signal in the gradient's mean square, |E g|^2 / E |g|^2: noise cancels. An overshoot
lowers it by lr c, and batches that take turns as above.

Letters: ``R`` pairs of steps.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defib.core.evidence import Evidence
from defib.core.inference import Interval
from defib.core.objective import Objective
from defib.core.optimizer import Pairs
from defib.core.run import RunView

Array = NDArray[np.float64]

FEWEST = 8
"""Fewer pairs than this give an interval that says nothing."""


@dataclass(frozen=True, kw_only=True)
class Consecutive:
    """The later half of the pairs of steps of a run.

    Attributes:
        first: First step of them.
        pairs: How many.
        overshoot: O, a ratio of means over the pairs; NaN if the steps do not go downhill.
        overshoot_interval: Its 95 % interval (jackknife).
        signal: Mean cosine of consecutive gradients.
        signal_interval: Its 95 % interval (Student).
        back: Share of the steps after which the gradient points back.
        same_data: Every step that was read had the same data.
    """

    first: int
    pairs: int
    overshoot: float
    overshoot_interval: Interval
    signal: float
    signal_interval: Interval
    back: float
    same_data: bool

    @property
    def steep(self) -> tuple[Evidence, ...]:
        """The numbers about the length of the steps."""
        return (
            Evidence(name="length of a step over the way to the lowest point ahead", value=self.overshoot),
            Evidence(name="the same, least at 95 %", value=self.overshoot_interval.low),
            Evidence(name="steps after which the gradient points back", value=self.back),
            Evidence(name="pairs of steps compared", value=self.pairs, unit="pairs"),
        )

    @property
    def noisy(self) -> tuple[Evidence, ...]:
        """The numbers about the signal in the gradient."""
        low, high = self.signal_interval.low, self.signal_interval.high
        return (
            Evidence(name="cosine of consecutive gradients, mean", value=self.signal),
            Evidence(name="the same, 95 % interval", value=f"{low:.3g} to {high:.3g}", unit="interval"),
            Evidence(
                name="is the mean gradient zero within the noise",
                value="yes" if low <= 0 <= high else "no",
                unit="answer",
            ),
            Evidence(name="pairs of steps compared", value=self.pairs, unit="pairs"),
        )


def consecutive(run: RunView) -> Consecutive | None:
    """Pairs of consecutive steps of a run's only optimiser.

    Returns:
        The numbers; None with several optimisers (each moves the other's loss) or too few pairs.
    """
    if len(run.optimizers) != 1:
        return None
    pairs = run.pairs.get(run.optimizers[0].index)
    if pairs is None:
        return None
    kept = _usable(pairs)
    kept = kept[len(kept) // 2 :]
    if len(kept) < FEWEST:
        return None
    before = pairs.before[kept] * pairs.gradient[kept] / pairs.next_gradient[kept]
    after = pairs.after[kept]
    overshoot, overshoot_interval = _ratio(after, before)
    signal, signal_interval = mean_of(pairs.again[kept])
    return Consecutive(
        first=int(pairs.steps[kept[0]]),
        pairs=len(kept),
        overshoot=overshoot,
        overshoot_interval=overshoot_interval,
        signal=signal,
        signal_interval=signal_interval,
        back=float((after > 0).mean()),
        same_data=same_data(run.objective),
    )


def same_data(objective: Objective | None) -> bool:
    """Whether inputs and targets had the very same statistics on every step that was read."""
    if objective is None or len(objective.steps) < FEWEST:
        return False
    columns = [values for name, values in objective.columns.items() if name.startswith(("input_", "target_"))]
    told = [values for values in columns if np.isfinite(values).all()]
    return len(told) > 1 and all(float(np.ptp(values)) == 0 for values in told)


def _usable(pairs: Pairs) -> NDArray[np.int64]:
    """Indices of the pairs of which every number is finite."""
    columns = (pairs.gradient, pairs.next_gradient, pairs.before, pairs.after, pairs.again)
    return np.flatnonzero(np.isfinite(np.stack(columns)).all(axis=0))


def mean_of(values: Array) -> tuple[float, Interval]:
    """A mean with its 95 % interval."""
    mean, error = float(values.mean()), float(values.std(ddof=1)) / len(values) ** 0.5
    return mean, _around(mean, error, len(values))


def _ratio(after: Array, before: Array) -> tuple[float, Interval]:
    """1 - sum(after) / sum(before) with its 95 % interval; NaN unless ``before`` is surely negative."""
    _, downhill = mean_of(before)
    if not downhill.high < 0:
        return float("nan"), Interval(low=-np.inf, high=np.inf)
    ratio = 1 - float(after.sum() / before.sum())
    without = 1 - (after.sum() - after) / (before.sum() - before)
    n = len(after)
    error = float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))
    return ratio, _around(ratio, error, n)


def _around(value: float, error: float, count: int) -> Interval:
    """95 % interval of Student's t."""
    from scipy.special import stdtrit

    give = float(stdtrit(count - 1, 0.975)) * error
    return Interval(low=value - give, high=value + give)
