"""Tries treatments one after the other, the best supported first, until one is clearly better.

Each is raced against the run without treatment (:mod:`defib.trials.race`): what is not
clearly ahead of it at a quarter or a half of the steps is ended there, so that a wrong first
choice costs a quarter of a run. The first that comes to its end, ends better and leaves
no finding of severity error is taken. Where none does, the best of those that came to
their end is; where none came to its end, the one that was furthest ahead is run in full.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from defib.core.trial import Goal, Outcome
from defib.trials.design import Arm, Job, Measure
from defib.trials.race import MARKS
from defib.trials.verdict import worth

Run = Callable[[Job], Outcome]
"""Runs a job, or finds what came of it in an earlier life of the trial."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search came to.

    Attributes:
        arm: The arm that was chosen; None if nothing could be given.
        outcomes: Its runs, in order.
        tried: How many arms were tried.
    """

    arm: Arm | None
    outcomes: tuple[Outcome, ...]
    tried: int


def search(arms: Sequence[Arm], control: Outcome, measure: Measure, budget: float, run: Run) -> Search:
    """Finds an arm that does better than the control.

    Args:
        arms: What to try, in order.
        control: The run without treatment, of the same seed.
        measure: What a run is worth.
        budget: No further arm is tried once this many of the control's steps were taken, less a quarter.
        run: Runs a job.

    Returns:
        The arm, and what was run for it.
    """
    known: list[tuple[Arm, Outcome]] = []
    for attempt, arm in enumerate(arms):
        if _spent(known, control) + MARKS[0] > budget and any(o.treated for _, o in known):
            break
        outcome = run(Job(arm=arm, seed=control.seed, raced=True, attempt=_attempt(arms, attempt)))
        known.append((arm, outcome))
        if is_enough(outcome, control, measure):
            break
    tried = len(known)
    chosen = _best(known, measure)
    if chosen is None:
        given = [k for k in known if k[1].treated]
        ahead = max(given, key=lambda k: -math.inf if k[1].gain is None else k[1].gain, default=None)
        if ahead is not None:
            attempt = _attempt(arms, [a is ahead[0] for a in arms].index(True))
            known.append((ahead[0], run(Job(arm=ahead[0], seed=control.seed, attempt=attempt))))
            chosen = ahead[0]
    return Search(arm=chosen, outcomes=tuple(o for _, o in known), tried=tried)


def is_enough(outcome: Outcome, control: Outcome, measure: Measure) -> bool:
    """Whether nothing else needs to be tried: it came to its end, ended better, and is not sick."""
    if outcome.stop_at is not None or not outcome.treated or outcome.wrong != 0:
        return False
    mine, other = worth(outcome, measure), worth(control, measure)
    if math.isnan(other):
        return outcome.score is not None
    return mine < other if measure.goal is Goal.LOWER else mine > other


def _best(known: Iterable[tuple[Arm, Outcome]], measure: Measure) -> Arm | None:
    """The best of those that came to their end; the earlier of two equal ones."""
    sign = -1.0 if measure.goal is Goal.LOWER else 1.0
    ended = [(a, sign * worth(o, measure)) for a, o in known if o.stop_at is None and o.treated]
    ended = [(a, -math.inf if math.isnan(w) else w) for a, w in ended]
    return max(ended, key=lambda e: e[1])[0] if ended else None


def _spent(known: Iterable[tuple[Arm, Outcome]], control: Outcome) -> float:
    """Steps taken, in runs without treatment."""
    return sum(o.steps for _, o in known) / max(1, control.steps)


def _attempt(arms: Sequence[Arm], index: int) -> int:
    """The number of an arm among those of its name: draws of the random arm are told apart by it."""
    return sum(a.name == arms[index].name for a in arms[:index])
