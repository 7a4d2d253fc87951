"""Better, worse or undecided: paired differences and their interval.

A run whose loss ended as NaN, infinity, or that crashed has lost all it had
learnt: it counts as much as its own first step. Losses that are positive are
compared as decimal logarithms: a loss is worth its order of magnitude.

Letters: ``N`` seeds that both arms have.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from defib.core.trial import Comparison, Goal, Outcome
from defib.trials.design import CONTROL, Measure

LEVEL = 0.95


def worth(outcome: Outcome, measure: Measure) -> float:
    """What a run is worth, NaN if that cannot be said.

    Args:
        outcome: The run.
        measure: What counts.

    Returns:
        Its score; for a run without a finite one, its first loss where the loss is the measure, and
        0 where a number that should rise is.
    """
    score = outcome.score
    if score is not None and math.isfinite(score):
        return score
    if measure.pattern or measure.logged:
        return 0.0 if measure.goal is Goal.HIGHER else math.inf
    first = outcome.first_loss
    return first if first is not None and math.isfinite(first) else math.nan


def compare(arm: str, outcomes: Iterable[Outcome], measure: Measure) -> Comparison:
    """One arm against the control.

    Args:
        arm: Name of the arm.
        outcomes: All complete runs of the trial.
        measure: What counts.

    Returns:
        The answer with its interval.
    """
    outcomes = tuple(outcomes)
    own = [o for o in outcomes if o.arm == arm]
    ended = [o for o in own if o.stop_at is None]
    mine = {seed: _best([o for o in ended if o.seed == seed], measure) for seed in {o.seed for o in ended}}
    control = {o.seed: o for o in outcomes if o.arm == CONTROL and o.stop_at is None}
    seeds = sorted(set(mine) & set(control))
    refused = next((o.refused for o in own if o.refused and (not o.treated or o.stop_at is not None)), "")
    if refused and not any(o.treated for o in mine.values()):
        return _without(arm, "refused", refused)
    stopped = [o for o in own if o.stop_at is not None]
    if stopped and not mine:
        rival = "that of the course that it adds to" if stopped[-1].rival else "the control's"
        why = f"at step {stopped[-1].stop_at}: its loss was not clearly below {rival}"
        return _without(arm, "stopped", why)
    pairs = np.array([(worth(mine[s], measure), worth(control[s], measure)) for s in seeds]).reshape(-1, 2)
    usable = np.isfinite(pairs).all(axis=1)
    if not usable.any():
        return _lost(arm, np.isfinite(pairs))
    return _judged(arm, pairs[usable], measure)


def _best(ended: Sequence[Outcome], measure: Measure) -> Outcome:
    """The run of one seed that is worth most: random repairs may have several, any other arm has one."""
    sign = -1.0 if measure.goal is Goal.LOWER else 1.0

    def value(outcome: Outcome) -> float:
        found = sign * worth(outcome, measure)
        return -math.inf if math.isnan(found) else found

    return max(ended, key=value)


def _judged(arm: str, pairs: NDArray[np.float64], measure: Measure) -> Comparison:
    """Paired t interval over N pairs (treated, control)."""
    logarithmic = measure.goal is Goal.LOWER and bool((pairs > 0).all())
    compared = np.log10(pairs) if logarithmic else pairs
    sign = -1.0 if measure.goal is Goal.LOWER else 1.0
    differences = sign * (compared[:, 0] - compared[:, 1])
    mean, number = float(differences.mean()), len(differences)
    spread = float(differences.std(ddof=1)) if number > 1 else math.nan
    low = high = effect = None
    if number > 1:
        half = float(stats.t.ppf(0.5 + LEVEL / 2, number - 1)) * spread / math.sqrt(number)
        low, high = mean - half, mean + half
        effect = mean / spread if spread > 0 else None
    answer = "undecided"
    if low is not None and high is not None and mean != 0:
        answer = "better" if low > 0 else "worse" if high < 0 else "undecided"
    unit = "decades of loss" if logarithmic else measure.name
    interval = "" if low is None else f", 95 % interval {low:+.3g} to {high:+.3g}"
    return Comparison(
        arm=arm,
        answer=answer,
        difference=mean,
        low=low,
        high=high,
        effect=effect,
        pairs=number,
        score=float(np.median(pairs[:, 0])),
        why=f"{mean:+.3g} {unit} in its favour over {number} seed{'s' * (number != 1)}{interval}",
    )


def _lost(arm: str, finite: NDArray[np.bool_]) -> Comparison:
    """No pair has two numbers: what is left is which side lost its measure (NaN, a crash)."""
    if len(finite) and finite[:, 0].all():
        return _without(arm, "better", "every control run lost its measure, no treated run did")
    if len(finite) and finite[:, 1].all():
        return _without(arm, "worse", "every treated run lost its measure, no control run did")
    return _without(arm, "undecided", "no pair of runs can be compared")


def _without(arm: str, answer: str, why: str) -> Comparison:
    return Comparison(
        arm=arm,
        answer=answer,
        difference=None,
        low=None,
        high=None,
        effect=None,
        pairs=0,
        score=None,
        why=why,
    )


def ranked(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Best first: what is better, by its size; then undecided, worse, stopped and refused."""
    order = {"better": 0, "undecided": 1, "worse": 2, "stopped": 3, "refused": 4}

    def size(c: Comparison) -> float:
        return math.inf if c.difference is None and c.answer == "better" else c.difference or 0.0

    return tuple(sorted(comparisons, key=lambda c: (order[c.answer], -size(c))))
