"""Whether the steps were beyond what the optimiser can follow: rate x largest curvature, as measured.

``defib run --curvature`` measures, on some steps, the largest eigenvalue of S^1/2 H S^1/2 for the
Hessian H of that step's own batch, S being what the optimiser multiplies the gradient with. Divided by
the bound of the optimiser's recurrence (:mod:`defib.core.stability`) it is the *load*: beyond 1 the error
along the steepest direction grows from step to step. Clipping that shortens the gradient shortens the step
with it, so the share of the gradient that reached the optimiser enters as a factor.

Every step with the same data: each measurement is of the loss that is trained, and its interval is
the residual bound. Other data on every step: the steepest curvature of a small batch is larger than that
of the mean loss, so it proves nothing. But the curvature of a new batch along a direction that was
fixed before that batch was drawn is on average that of the mean loss along it, which is at most its
largest: the mean over the measurements, less what chance leaves open, is a lower bound. The mean of the
batches' own largest ones is an upper bound likewise (the largest eigenvalue is a convex function).

Letters: ``R`` measurements.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defib.core.evidence import Evidence, Unseen
from defib.core.inference import Interval
from defib.core.run import RunView
from defib.core.sharpness import FACTS, Sharpness
from defib.diagnosis.measures.consecutive import mean_of, same_data

Array = NDArray[np.float64]

FEWEST = 3
"""Fewer batches than this have no mean with an interval."""

LEAST = FEWEST + 1
"""Measurements at the start that give so many: the first has no direction fixed before it."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """rate x largest curvature over what the optimiser can follow, in some part of a run.

    Attributes:
        first: First step at which it was measured there.
        count: Measurements.
        value: The load: the median where the data is the same, else the mean along earlier directions.
        interval: Residual bound, or 95 % interval of the mean loss's.
        bound: Largest stable rate x curvature.
        largest: Median of the largest eigenvalue of H itself.
        reached: Median share of the gradient that reached the optimiser.
        same_data: Every step has the same data.
    """

    first: int
    count: int
    value: float
    interval: Interval
    bound: float
    largest: float
    reached: float
    same_data: bool

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The numbers."""
        low, high = (self.bound * end for end in (self.interval.low, self.interval.high))
        found = [
            Evidence(name="rate x largest curvature", value=self.value * self.bound),
            Evidence(name="the same, interval", value=f"{low:.4g} to {high:.4g}", unit="interval"),
            Evidence(name="the most that the optimiser can follow", value=self.bound),
            Evidence(name="largest eigenvalue of a batch's Hessian", value=self.largest),
            Evidence(name="steps on which curvature was measured", value=self.count, unit="steps"),
        ]
        if self.reached < 0.999:
            found.append(Evidence(name="share of the gradient left by clipping", value=self.reached))
        return tuple(found)


def load(run: RunView, until: int | None = None) -> Load | None:
    """The load of a run's only optimiser.

    Args:
        run: The run.
        until: Up to that step, from the first on, but the first :data:`LEAST` in any case; None for the
            later half of the measurements.

    Returns:
        None if it was not measured there, or too seldom for its interval.
    """
    if len(run.optimizers) != 1:
        return None
    measured = run.sharpness.get(run.optimizers[0].index)
    if measured is None:
        return None
    kept = np.flatnonzero(np.isfinite(measured.product) & (measured.bound > 0))
    early = kept[: max(LEAST, int((measured.steps[kept] <= (until or 0)).sum()))]
    kept = kept[len(kept) // 2 :] if until is None else early
    if not len(kept):
        return None
    same = same_data(run.objective)
    share = np.nan_to_num(measured.reached[kept], nan=1.0).clip(max=1.0) / measured.bound[kept]
    value, interval = _same(measured, kept, share) if same else _mixed(measured, kept, share)
    if not np.isfinite(value):
        return None
    return Load(
        first=int(measured.steps[kept[0]]),
        count=len(kept),
        value=value,
        interval=interval,
        bound=float(np.median(measured.bound[kept])),
        largest=float(np.median(measured.largest[kept])),
        reached=float(np.median(measured.reached[kept])),
        same_data=same,
    )


def _same(measured: Sharpness, kept: NDArray[np.int64], share: Array) -> tuple[float, Interval]:
    """Median over the measurements, and of both ends of their intervals."""
    middle, give = measured.product[kept] * share, measured.product_error[kept] * share
    low, high = float(np.median(middle - give)), float(np.median(middle + give))
    return float(np.median(middle)), Interval(low=low, high=high)


def _mixed(measured: Sharpness, kept: NDArray[np.int64], share: Array) -> tuple[float, Interval]:
    """Mean along directions fixed beforehand; from its lower end to the upper one of the batches' largest."""
    along = measured.along[kept] * share
    most = (measured.product[kept] + measured.product_error[kept]) * share
    known = np.isfinite(along)
    if known.sum() < FEWEST:
        return float("nan"), Interval(low=-np.inf, high=np.inf)
    value, below = mean_of(along[known])
    return value, Interval(low=below.low, high=max(mean_of(most)[1].high, value))


def how_to_measure(run: RunView) -> tuple[str, ...]:
    """What to type where curvature was not measured; nothing where it was, or why it could not be."""
    facts = run.facts.get(FACTS)
    if run.sharpness:
        return ()
    why = facts.get("why_off", "") if isinstance(facts, dict) else ""
    if why:
        return (f"curvature could not be measured: {why}",)
    target = str(run.facts.get("target") or "train.py")
    return (f"defib run --curvature {target}   (rate x curvature, measured)",)


def not_measured(run: RunView) -> tuple[Unseen, ...]:
    """What was asked for and could not be measured, with the reason; empty where nothing is missing."""
    facts = run.facts.get(FACTS)
    if not isinstance(facts, dict):
        return ()
    why = facts.get("why_off")
    if why:
        return (Unseen(what=FACTS, why=str(why)),)
    skipped = facts.get("skipped")
    if facts.get("measured") or not isinstance(skipped, dict) or not skipped:
        return ()
    return (Unseen(what=FACTS, why=str(max(skipped, key=lambda reason: int(skipped[reason])))),)
