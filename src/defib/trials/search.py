"""Looks for a course of treatments that does clearly better than none, the best supported first.

Each arm is raced (:mod:`defib.trials.race`): what is not clearly ahead of its rival at a
quarter or a half of the steps is ended there, so that a wrong choice costs a quarter of a run.

A treated run is diagnosed in its turn. Where something else is found there, what helps
against that is tried *in addition*, up to :data:`DEPTH` treatments, planned from the run
that had the earlier ones: networks have two or three faults at once, and the first one
hides the others. A run is added to where it ended better than what it was raced against
and is not well yet; and where its treatment did what it was given for (that finding is
gone) but something shows that was not there before. A longer course is raced against the
shorter one if that came to its end, else against the control, and is taken only if it
ends clearly better than the shorter one.

The first arm that ends better than the control and leaves no finding of severity error
ends the search for alternatives; only additions to it are still tried. As long as nothing
ended better, the last turn that the budget allows is not for one alternative more: of the
runs that were ended early although nothing is found in them any more, the one that was
furthest ahead is run in full, for what was given for a cause and removed it may only
need longer. Of all that came to their end the best is taken; where none did, the one
that was furthest ahead is run in full. Random repairs go through the very same search.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from defib.core.trial import Goal, Outcome
from defib.trials.design import Arm, Job, Measure
from defib.trials.race import CLEARLY, MARKS
from defib.trials.verdict import worth

DEPTH = 3
"""Treatments of a course, at most."""

MOST = 12
"""Arms that are tried at most, refused ones included."""

Run = Callable[[Job], Outcome]
"""Runs a job, or finds what came of it in an earlier life of the trial."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """An arm, and what came of it.

    Attributes:
        job: What was run; its arm is what was tried.
        outcome: What came of it.
        before: What it adds a treatment to; None for a first treatment.
    """

    job: Job
    outcome: Outcome
    before: "Tried | None" = None

    @property
    def is_given(self) -> bool:
        """Whether it got all of its treatments."""
        return len(self.outcome.treated) >= len(self.job.arm.given) > 0

    @property
    def has_ended(self) -> bool:
        """Whether it got all of its treatments and came to its end."""
        return self.is_given and self.outcome.stop_at is None


Propose = Callable[[Tried | None], Sequence[Arm]]
"""What could be tried: of first treatments (for None), or in addition to what was tried."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search came to.

    Attributes:
        arm: The arm that was chosen; None if nothing could be given.
        outcomes: Its runs, in order.
        arms: The arms that were tried, in order.
    """

    arm: Arm | None
    outcomes: tuple[Outcome, ...]
    arms: tuple[Arm, ...]

    @property
    def tried(self) -> int:
        """How many arms were tried."""
        return len(self.arms)


@dataclass(kw_only=True)
class _Waiting:
    """An arm whose turn has not come, with what it adds to."""

    arm: Arm
    before: Tried | None

    @property
    def strength(self) -> float:
        return self.arm.given[-1].strength if self.arm.given else 0.0


def search(
    propose: Propose, control: Outcome, measure: Measure, budget: float, run: Run, most: int = MOST
) -> Search:
    """Finds a course of treatments that does better than the control.

    Args:
        propose: What could be tried, in order.
        control: The run without treatment, of the same seed.
        measure: What a run is worth.
        budget: No further arm is tried once this many of the control's steps were taken, less a quarter.
        run: Runs a job.
        most: Arms that are tried at most.

    Returns:
        The arm, and what was run for it.
    """
    known: list[Tried] = []
    waiting = [_Waiting(arm=arm, before=None) for arm in propose(None)]
    won = False
    while _goes_on(known, control, budget, turns=1):
        late = None if won else _late(known)
        if late is not None and (not waiting or not _goes_on(known, control, budget, turns=2)):
            job = replace(late.job, raced=False)
            tried = Tried(job=job, outcome=run(job), before=late.before)
        elif waiting and sum(t.job.raced for t in known) < most:
            turn = waiting.pop(0)
            job = _job(turn, control.seed, sum(t.job.arm.name == turn.arm.name for t in known))
            tried = Tried(job=job, outcome=run(job), before=turn.before)
        else:
            break
        known.append(tried)
        if tried.has_ended and _is_better(tried, control, measure):
            won = True
            if not tried.outcome.wrong:
                waiting = []
            waiting = [*_additions(tried, propose), *waiting]
        elif _shows_another(tried, control):
            waiting = _merged(waiting, _additions(tried, propose))
    return _concluded(known, measure, run)


def _concluded(known: Sequence[Tried], measure: Measure, run: Run) -> Search:
    """The best of what was tried; where nothing came to its end, what was furthest ahead is run in full."""
    chosen, outcomes = _best(known, measure), [t.outcome for t in known]
    given = [t for t in known if t.is_given]
    if chosen is None and given:
        ahead = max(given, key=_gained)
        outcomes.append(run(replace(ahead.job, raced=False)))
        chosen = ahead.job.arm
    arms = tuple(t.job.arm for t in known if t.job.raced)
    return Search(arm=chosen, outcomes=tuple(outcomes), arms=arms)


def _goes_on(known: Sequence[Tried], control: Outcome, budget: float, turns: int) -> bool:
    """Whether the budget has room for so many arms that are ended at the first mark."""
    spent = sum(t.outcome.steps for t in known) / max(1, control.steps)
    return spent + turns * MARKS[0] <= budget or not any(t.is_given for t in known)


def _late(known: Sequence[Tried]) -> Tried | None:
    """Of the runs that were ended early without a finding in them, the one furthest ahead."""
    ended = {(t.job.arm.name, t.job.attempt) for t in known if t.has_ended}
    stopped = [
        t
        for t in known
        if t.is_given
        and not t.has_ended
        and not t.outcome.findings
        and (t.job.arm.name, t.job.attempt) not in ended
    ]
    return max(stopped, key=_gained, default=None)


def _gained(tried: Tried) -> float:
    """How far ahead it was when it was last compared."""
    return -math.inf if tried.outcome.gain is None else tried.outcome.gain


def _job(turn: _Waiting, seed: int, attempt: int) -> Job:
    """A raced run; against the shorter course only where that came to its end, and can be compared with."""
    rival = turn.before.job.name if turn.before is not None and turn.before.has_ended else ""
    return Job(arm=turn.arm, seed=seed, raced=True, attempt=attempt, rival=rival)


def _is_better(tried: Tried, control: Outcome, measure: Measure) -> bool:
    """Whether it ended better than the control; a longer course clearly better than the shorter one, too."""
    before = tried.before
    shorter = before.outcome if before is not None and before.has_ended else None
    return is_ahead(tried.outcome, control, measure) and (
        shorter is None or is_ahead(tried.outcome, shorter, measure, by=CLEARLY)
    )


def is_ahead(outcome: Outcome, other: Outcome, measure: Measure, by: float = 0.0) -> bool:
    """Whether a run that came to its end is worth more than another.

    Args:
        outcome: The run.
        other: The other.
        measure: What counts.
        by: By what part of the other's worth it has to be ahead.

    Returns:
        True for any number where the other has lost its measure.
    """
    mine, its = worth(outcome, measure), worth(other, measure)
    if math.isnan(its) or outcome.score is None:
        return outcome.score is not None
    asked = by * abs(its) if math.isfinite(its) else 0.0
    return mine < its - asked if measure.goal is Goal.LOWER else mine > its + asked


def _shows_another(tried: Tried, control: Outcome) -> bool:
    """Whether what it was given for is gone, and something is found that was not there before."""
    before = control if tried.before is None else tried.before.outcome
    if not tried.is_given or not before.findings:
        return False
    last = tried.job.arm.given[-1]
    aim = named(last.rule, last.layer) if last.rule else before.findings[0]
    new = set(tried.outcome.findings) - set(before.findings)
    return aim not in tried.outcome.findings and bool(new)


def named(rule: str, layer: str) -> str:
    """A finding, as :attr:`defib.core.trial.Outcome.findings` calls it."""
    return f"{rule} in {layer}" if layer else rule


def _additions(tried: Tried, propose: Propose) -> list[_Waiting]:
    """What is worth trying in addition to an arm that has left something to treat."""
    if len(tried.job.arm.given) >= DEPTH or not tried.outcome.findings:
        return []
    return [_Waiting(arm=arm, before=tried) for arm in propose(tried)]


def _merged(waiting: list[_Waiting], more: list[_Waiting]) -> list[_Waiting]:
    """Additions to what was no better yet come before the first alternative that is expected to do less."""
    strongest = max((w.strength for w in more), default=0.0)
    place = next((i for i, w in enumerate(waiting) if w.strength < strongest), len(waiting))
    return [*waiting[:place], *more, *waiting[place:]]


def _best(known: Sequence[Tried], measure: Measure) -> Arm | None:
    """The best of those that came to their end; a longer course only if it is clearly better."""
    best: Tried | None = None
    for tried in known:
        if not tried.has_ended:
            continue
        longer = best is not None and len(tried.job.arm.given) > len(best.job.arm.given)
        by = CLEARLY if longer else 0.0
        if best is None or is_ahead(tried.outcome, best.outcome, measure, by=by):
            best = tried
    return None if best is None else best.job.arm
