"""Rolls units forward with zero gradients, step by step, until each has an answer.

Letters: ``U`` units, k steps ahead.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defib.core.remains import Part, Remains
from defib.diagnosis.prognosis.arithmetic import Array
from defib.diagnosis.prognosis.family import Body, Family, Tail
from defib.diagnosis.prognosis.proof import first_return, future
from defib.diagnosis.prognosis.samples import Samples, Sentry

WORK = 4e8
"""Entries times steps that a roll-out without a horizon may take (some seconds)."""

FEWEST, MOST = 2_000, 100_000
"""Steps that a roll-out without a horizon takes at least and at most."""

SAFE = 64.0
"""A proof holds in rounded arithmetic too if its margin is that many rounding errors."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A part with the rule that moves it.

    Attributes:
        part: The part.
        family: Its optimiser's family.
        body: Where it is.
    """

    part: Part
    family: Family
    body: Body

    def lr(self, k: int) -> float:
        """Learning rate of the k-th step ahead, k from 0."""
        lrs = self.part.lrs
        if lrs is None or not len(lrs):
            return float(self.part.settings.get("lr", 0.0))
        return float(lrs[min(k, len(lrs) - 1)])

    def highest_lr(self, k: int) -> tuple[float, bool]:
        """Largest learning rate from the k-th step on, and whether all are equal."""
        lrs = self.part.lrs
        if lrs is None or k >= len(lrs) - 1:
            return self.lr(k), True
        later = lrs[k:]
        return float(later.max()), bool(later.min() == later.max())

    def keep(self, units: NDArray[np.bool_]) -> "Moved":
        """The same for these units only."""
        return Moved(part=self.part, family=self.family, body=self.body.keep(units))


@dataclass(kw_only=True)
class Course:
    """What became of the units.

    Attributes:
        first: Steps ahead at which each fires first (0: it fires now), shape (U,); -1 if it was not seen to.
        never: Proved never to fire, shape (U,).
        fixed: Proved so because nothing changes any more, not even by rounding, shape (U,).
        estimated: Proved to fire, but its step is from the closed form, shape (U,).
        doubtful: The step, or the proof, is within the rounding of the forward pass, shape (U,).
        steps: How many steps were taken.
    """

    first: NDArray[np.int64]
    never: NDArray[np.bool_]
    fixed: NDArray[np.bool_]
    estimated: NDArray[np.bool_]
    doubtful: NDArray[np.bool_]
    steps: int = 0

    @classmethod
    def of(cls, units: int) -> "Course":
        """Nothing known about ``units`` units."""
        flags = [np.zeros(units, np.bool_) for _ in range(4)]
        never, fixed, estimated, doubtful = flags
        return cls(
            first=np.full(units, -1, np.int64),
            never=never,
            fixed=fixed,
            estimated=estimated,
            doubtful=doubtful,
        )


def budget(remains: Remains) -> int:
    """Steps that are worth rolling out if nobody says how many."""
    entries = sum(part.values.size for part in remains.parts)
    return int(np.clip(WORK / max(1, entries), FEWEST, MOST))


def roll(samples: Samples, moved: Sequence[Moved], limit: int, prove: bool = True) -> Course:
    """Rolls out.

    Args:
        samples: The kept samples.
        moved: The parts; their bodies are used up.
        limit: Steps to take at most.
        prove: Whether to look for proofs that settle a unit for all time.

    Returns:
        What became of the units.
    """
    units = len(moved[0].body.values)
    course, open_ = Course.of(units), np.arange(units)
    sentry = Sentry(samples, _values(moved))
    at_once = sentry.peak > 0
    course.first[at_once] = 0
    open_, moved = _narrow(open_, moved, sentry, ~at_once)
    for k in range(limit + 1):
        if k:
            before = _values(moved)
            for part in moved:
                part.family.step(part.body, part.lr(k - 1))
            was = sentry.bound
            firing = sentry.look(_values(moved))
            if firing.any():
                _note_returns(course, open_, firing, k, samples, (before, _values(moved), was, sentry.peak))
                open_, moved = _narrow(open_, moved, sentry, ~firing)
            course.steps = k
        if len(open_) and prove and _is_time(k):
            settled = _prove(course, open_, moved, samples, k)
            open_, moved = _narrow(open_, moved, sentry, ~settled)
        if not len(open_):
            break
    if len(open_) and prove:
        _estimate(course, open_, moved, samples)
    return course


def _is_time(k: int) -> bool:
    """Proofs are tried at 0 and at powers of two and halfway between."""
    return k == 0 or k & (k - 1) == 0 or (k % 3 == 0 and (k // 3) & (k // 3 - 1) == 0)


def _values(moved: Sequence[Moved]) -> list[Array]:
    """The parts' values."""
    return [part.body.values for part in moved]


def _narrow(
    open_: NDArray[np.int64], moved: Sequence[Moved], sentry: Sentry, kept: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], Sequence[Moved]]:
    """Goes on with the units that have no answer yet."""
    if kept.all():
        return open_, moved
    sentry.keep(kept)
    return open_[kept], [part.keep(kept) for part in moved]


def _note_returns(
    course: Course,
    open_: NDArray[np.int64],
    firing: NDArray[np.bool_],
    k: int,
    samples: Samples,
    seen: tuple[list[Array], list[Array], NDArray[np.float64], NDArray[np.float64]],
) -> None:
    """Notes units that fire, and whether rounding could have moved that by a step.

    ``seen`` holds the values before and after the step, and the pre-activations' bounds before and after.
    """
    before, after, was, peak = seen
    course.first[open_[firing]] = k
    blurred = (peak[firing] <= samples.blur([v[firing] for v in after])) | (
        was[firing] >= -samples.blur([v[firing] for v in before])
    )
    course.doubtful[open_[firing]] = blurred


def _tails(moved: Sequence[Moved], k: int) -> tuple[list[Tail], bool] | None:
    """Every part's future from the k-th step on, and whether rates are constant; None if one is unknown.

    Where learning rates vary, the parts must follow the same schedule and differ in nothing but decay:
    only then are their modes ordered alike at every step.

    Returns:
        The tails.
    """
    tails, constant = [], True
    for part in moved:
        lr, level = part.highest_lr(k)
        tail = part.family.tail(part.body, lr)
        if tail is None or (not level and part.family.steady(part.body, lr)):
            return None
        constant &= level
        tails.append(tail)
    return (tails, constant) if constant or _alike(moved) else None


def _alike(moved: Sequence[Moved]) -> bool:
    """The parts differ in nothing but their decay."""

    def law(part: Moved) -> tuple[object, ...]:
        skipped = {"weight_decay", "lr", "initial_lr"}
        settings = sorted((k, repr(v)) for k, v in part.part.settings.items() if k not in skipped)
        lrs = part.part.lrs
        return part.part.kind, settings, None if lrs is None else lrs.tobytes()

    return all(law(part) == law(moved[0]) for part in moved)


def _prove(
    course: Course, open_: NDArray[np.int64], moved: Sequence[Moved], samples: Samples, k: int
) -> NDArray[np.bool_]:
    """Settles units for all time, if that can be done now."""
    settled = np.zeros(len(open_), np.bool_)
    found = _tails(moved, k)
    if found is not None:
        seen = future(samples, found[0], len(open_))
        settled |= seen.never
        course.never[open_[seen.never]] = True
        course.doubtful[open_[seen.never]] = seen.margin[seen.never] < SAFE * samples.epsilon
    fixed = ~settled & _fixed(moved, k)
    course.never[open_[fixed]] = course.fixed[open_[fixed]] = True
    return settled | fixed


def _fixed(moved: Sequence[Moved], k: int) -> NDArray[np.bool_]:
    """Units that another step, tried on a copy, leaves bit-identical, for good."""
    same = np.ones(len(moved[0].body.values), np.bool_)
    for part in moved:
        lr, level = part.highest_lr(k)
        if not level:
            return np.zeros_like(same)
        old, new = part.body, part.body.keep(np.ones_like(same))
        part.family.step(new, lr)
        same &= np.all(new.values == old.values, axis=1)
        states = dict(new.arrays())
        for name, array in states.items():
            was = old.state.get(name)
            same &= np.all(array == was, axis=1) if was is not None else ~np.any(array, axis=1)
        same &= part.family.fixed(new)
    return same


def _estimate(course: Course, open_: NDArray[np.int64], moved: Sequence[Moved], samples: Samples) -> None:
    """Units that will surely fire later than was rolled out get their step from the closed form."""
    found = _tails(moved, course.steps)
    if found is None or not found[1]:
        return
    sure = np.flatnonzero(future(samples, found[0], len(open_)).surely)
    for unit in sure:
        later = first_return(samples, found[0], int(unit), 2**40)
        if later is not None:
            course.first[open_[unit]] = course.steps + later
            course.estimated[open_[unit]] = True
