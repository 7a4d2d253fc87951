"""Did it learn? Answered from the loss alone, with an interval.

The loss of single mini-batches is noisy, its scale is anybody's choice, and
what a perfect model would reach is unknown. So the question is put as: by which
share did the loss fall from its first steps to its last, give or take the
noise, and is it still falling? A model that learns nothing but its output bias
lets the loss fall a little and then no more.

Letters: ``T`` steps.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from defib.core.evidence import Evidence
from defib.core.inference import Interval, block_medians, falling, noise
from defib.core.run import RunView
from defib.core.series import Series
from defib.diagnosis.measures.constant import TIE, constant_level

Array = NDArray[np.float64]

SHORTEST = 20
"""Fewer losses than this say nothing."""
SHORTEST_FLAT = 50
"""A flat loss over fewer steps than this may still be the start of learning."""
LEARNED = 0.2
"""A fall by this share of the first loss is learning."""
SLOW = 0.03
"""A fall by this share is learning if the loss is still falling at the end."""
RISEN = 0.5
"""A rise by this share of the first loss is divergence."""
NEAR = 0.1
"""A loss at rest within this share above the best constant's is at that level."""
REST = 0.05
"""A fall by less than this share of the level over half a run is rest."""
RELAPSED = 0.5
"""Losing this share of the best fall again is a relapse."""
PATIENCE = 100
"""After this many steps a loss above the best constant's has to be on its way down to it."""


class Outcome(StrEnum):
    """The answer in one word."""

    LEARNING = "learning"
    NOT_LEARNING = "not learning"
    DIVERGING = "diverging"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What the loss says.

    Attributes:
        outcome: The answer.
        start: Median loss of the first steps; NaN if unknown.
        end: Median loss of the last tenth; NaN if unknown.
        best: Lowest median of a twentieth of the run; NaN if unknown.
        fall: (start - end) / scale, where the scale is the first loss, or the loss's own range
            if it has no zero.
        interval: 95 % interval of ``fall`` that follows from the noise between steps.
        relapsed: It had learned, and lost most of that again.
        steps: Losses seen.
        mean: Mean loss of the last tenth, which compares with what a constant costs on average.
        error: Standard error of that mean.
        kept: The loss did not fall, and the answer is "learning" only because it began far below what a
            constant costs: what had been learned before was kept.
    """

    outcome: Outcome
    start: float = np.nan
    end: float = np.nan
    best: float = np.nan
    fall: float = np.nan
    interval: Interval = field(default_factory=lambda: Interval(low=-np.inf, high=np.inf))
    relapsed: bool = False
    steps: int = 0
    mean: float = np.nan
    error: float = np.nan
    kept: bool = False

    @property
    def stuck(self) -> bool:
        """It is certain enough that this run does not learn."""
        return self.outcome in {Outcome.NOT_LEARNING, Outcome.DIVERGING}

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The numbers behind the answer."""
        answer = Evidence(name="does it learn", value=str(self.outcome), unit="answer")
        if self.outcome is Outcome.UNKNOWN or not np.isfinite(self.start):
            return (answer,)
        return (
            answer,
            Evidence(name="loss at the start", value=self.start, unit="loss"),
            Evidence(name="loss at the end", value=self.end, unit="loss"),
        )


def learning(run: RunView) -> Learning:
    """Whether this run learns.

    With several optimisers (a GAN) a loss that does not fall proves nothing,
    since the other side may keep it up: such a run learns, diverges or is unknown.

    Returns:
        The answer with its numbers; of several optimisers, that of the one that learns most.
    """
    answers = [judge(o.loss) for o in run.optimizers]
    if not answers:
        return Learning(outcome=Outcome.UNKNOWN)
    if len(answers) == 1:
        return _against_constant(answers[0], run)
    for wanted in (Outcome.LEARNING, Outcome.DIVERGING):
        matching = [a for a in answers if a.outcome is wanted]
        if matching:
            return max(matching, key=lambda a: np.nan_to_num(a.fall, nan=-np.inf))
    return Learning(outcome=Outcome.UNKNOWN)


def _against_constant(state: Learning, run: RunView) -> Learning:
    """The same answer, unless the loss of the best constant says otherwise.

    A run that does not fall but is well below it was trained before, and is no failure. One that
    fell and came to rest at it has learned nothing from its inputs.

    A loss that begins far above that, from large first outputs, falls a long way while
    nothing but the scale of the outputs is learned. Healthy networks pass that level, too,
    so it must have lain there for half of the run; and one that is still above it must be so far
    off that the pace of its last half would not take it there in as many steps again.

    Returns:
        The answer.
    """
    level = constant_level(run)
    if not np.isfinite(level.value):
        return state
    known = state.outcome is Outcome.NOT_LEARNING and not state.relapsed
    if known and state.end <= (1 - LEARNED) * level.value:
        return replace(state, outcome=Outcome.LEARNING, kept=True)
    values = np.asarray(run.loss.values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if state.outcome is not Outcome.LEARNING or len(values) < SHORTEST_FLAT:
        return state
    half = len(values) // 2
    before = float(np.median(values[half : half + max(5, len(values) // 10)]))
    near = (1 - TIE) * level.value <= state.end <= (1 + NEAR) * level.value
    rests = before - state.end <= REST * level.value and not _falls_late(values, scale(values))
    give = 2 * float(np.hypot(state.error, level.error))
    above = min(state.end, state.mean - give) > (1 + NEAR) * level.value and len(values) >= PATIENCE
    if (near and rests) or (above and not _arrives(before, state.end, level.value)):
        return replace(state, outcome=Outcome.NOT_LEARNING)
    return state


def _arrives(before: float, end: float, level: float) -> bool:
    """Whether a loss that fell so far in half of a run gets to that level in as many steps again.

    A loss far above falls in proportion to itself (the scale of the outputs shrinks), so the pace is
    that of its logarithm.

    Returns:
        False, too, where it does not fall.
    """
    if not 0 < end < before or level <= 0:
        return False
    return bool(np.log(end / level) <= 2 * np.log(before / end))


def judge(loss: Series) -> Learning:
    """Whether one loss shows learning; see the module's text.

    Returns:
        The answer with its numbers.
    """
    values = np.asarray(loss.values, dtype=np.float64)
    count = len(values)
    tail = values[-max(5, count // 10) :]
    finite = values[np.isfinite(values)]
    if count and (not np.isfinite(values[-1]) or np.isfinite(tail).mean() < 0.5):
        start = float(np.median(finite[:5])) if len(finite) else np.nan
        return Learning(outcome=Outcome.DIVERGING, start=start, end=float(values[-1]), steps=count)
    if len(finite) < SHORTEST:
        return Learning(outcome=Outcome.UNKNOWN, steps=count)
    return _judge_finite(finite)


def _judge_finite(values: Array) -> Learning:
    """The same for a series of finite losses, at least ``SHORTEST`` of them."""
    first, last = values[: _few(values)], values[-max(5, len(values) // 10) :]
    start, end = float(np.median(first)), float(np.median(last))
    blocks = block_medians(values, 20)
    best = min(float(blocks.min()), end)
    size = scale(values)
    give, give_end = _give(first), _give(last)
    # the few first losses may differ wildly, but their median lies between them
    low, high = max(start - give, float(first.min())), min(start + give, float(first.max()))
    fall = (start - end) / size if size > 0 else 0.0
    interval = Interval(low=0.0, high=0.0)
    if size > 0:
        interval = Interval(low=(low - end - give_end) / size, high=(high - end + give_end) / size)
    gained = start - best
    # the best of twenty noisy blocks lies below the course by about two of their errors
    chance = 3 * 1.2533 * noise(values) / max(1, len(values) // 20) ** 0.5
    relapsed = gained - chance > LEARNED * size and end - best - chance > RELAPSED * gained
    outcome = _outcome(values, interval, size)
    if relapsed and outcome is Outcome.LEARNING:
        outcome = Outcome.NOT_LEARNING
    return Learning(
        outcome=outcome,
        start=start,
        end=end,
        best=best,
        fall=fall,
        interval=interval,
        relapsed=relapsed,
        steps=len(values),
        mean=float(last.mean()),
        error=float(last.std(ddof=1)) / len(last) ** 0.5,
    )


def _give(values: Array) -> float:
    """Half the 95 % interval of the median of a few noisy losses."""
    return float(1.96 * 1.2533 * noise(values) / len(values) ** 0.5)


def _outcome(values: Array, fall: Interval, size: float) -> Outcome:
    """The answer for a finite series."""
    if fall.low >= LEARNED:
        return Outcome.LEARNING
    if fall.high <= -RISEN:
        return Outcome.DIVERGING
    if fall.low >= SLOW and _falls_late(values, size):
        return Outcome.LEARNING
    return Outcome.NOT_LEARNING if len(values) >= SHORTEST_FLAT else Outcome.UNKNOWN


def _falls_late(values: Array, size: float) -> bool:
    """Whether the second half still falls, in trend and in size."""
    late = block_medians(values[len(values) // 2 :], 16)
    quarter = max(1, len(late) // 4)
    fallen = float(np.median(late[:quarter]) - np.median(late[-quarter:]))
    return fallen > 0.01 * size and falling(late) < 0.01


def scale(values: Array) -> float:
    """What a change of the loss is measured against.

    Returns:
        The median of the first losses if all losses are positive; otherwise zero means nothing
        for this loss, and it is the range between its 5th and 95th percentile.
    """
    start = float(np.median(values[: _few(values)]))
    if start > 0 and float(values.min()) >= 0:
        return start
    low, high = np.percentile(values, [5, 95])
    return float(high - low)


def _few(values: Array) -> int:
    """How many of the first losses stand for the start."""
    return max(3, min(20, len(values) // 50))


@dataclass(frozen=True, kw_only=True)
class Change:
    """The loss before and after one step.

    Attributes:
        before: Median loss over the steps before.
        after: Median loss from then to the end of the run.
        worse: It stays higher, by more than the noise and a tenth of the scale.
        stalled: It fell before and has not fallen since, well above zero.
    """

    before: float
    after: float
    worse: bool
    stalled: bool


def change_at(loss: Series, step: int) -> Change | None:
    """How the loss went on after ``step``.

    Returns:
        The comparison; None if there are fewer than three losses before or ten after.
    """
    finite = np.isfinite(loss.values)
    steps, values = loss.steps[finite], np.asarray(loss.values[finite], dtype=np.float64)
    early, late = values[steps < step], values[steps >= step]
    if len(early) < 3 or len(late) < 10:
        return None
    window = early[-max(3, min(50, len(early) // 4)) :]
    before, after = float(np.median(window)), float(np.median(late))
    end = float(np.median(late[-max(5, len(late) // 10) :]))
    size = scale(values)
    give = _give(window)
    fell = float(np.median(early[: _few(early)])) - before
    since = float(np.median(late[: max(5, len(late) // 10)])) - end
    return Change(
        before=before,
        after=after,
        worse=min(after, end) - before > max(give, 0.1 * size),
        stalled=fell > 0.03 * size and since < 0.02 * size and end > 0.5 * size,
    )


def at_rest(loss: Series) -> bool:
    """Whether the second half of the losses falls no more, in trend or in size."""
    values = np.asarray(loss.values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) < SHORTEST_FLAT:
        return False
    half = len(values) // 2
    before, end = float(np.median(values[half : half + half // 4])), float(np.median(values[-(half // 4) :]))
    return before - end <= REST * max(end, 0.0) and not _falls_late(values, scale(values))


def standstill(state: Learning, loss: Series) -> bool:
    """Whether a run has come to a stationary point far above zero.

    The last third of its losses lie within a hundredth of the first one, all of them, and still at
    half of it: nothing is left to follow. At a noise floor of mini-batches losses differ.

    Returns:
        True if all of it holds.
    """
    values = loss.values[np.isfinite(loss.values)]
    if len(values) < SHORTEST_FLAT or not state.end > 0.5 * state.start:
        return False
    last = values[-(len(values) // 3) :]
    return bool(float(np.ptp(last)) < 0.01 * state.start)
