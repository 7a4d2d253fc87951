"""Foretells what will become of units whose gradient is exactly zero.

While a unit fires for no sample, no data gradient acts on it, and what its optimiser does to it is a fixed
rule: it is rolled forward in the optimiser's own arithmetic until the unit fires, or until a proof settles
it for all time (:mod:`defib.diagnosis.prognosis.proof`). This holds while the features that feed the layer
stand still, which is so for a first layer; for others the answer is what happens if nothing below moves.

A GPU, ``foreach`` and ``fused`` optimisers round some operations differently in the last bit. A unit whose
pre-activation comes within a few rounding errors of its threshold may then fire a step earlier or later;
such answers have ``exact=False``.

Letters: ``U`` units.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from defib.core.catalogue import entries
from defib.core.prognosis import Mechanism, Outlook, Prognosis
from defib.core.remains import Part, Remains
from defib.diagnosis.prognosis.course import Course, Moved, budget, roll
from defib.diagnosis.prognosis.family import Body, Family
from defib.diagnosis.prognosis.grounds import Grounds, grounds
from defib.diagnosis.prognosis.samples import Samples
from defib.diagnosis.prognosis.wording import worded

PACKAGE = "defib.diagnosis.prognosis.families"
GROUP = "defib.optimizers"

FORCES, OUTLOOKS = tuple(Mechanism), tuple(Outlook)
"""What the codes in arrays of mechanisms and outlooks stand for."""

FULL = {"float64", "float32"}
"""Formats in which the optimiser's steps are followed bit by bit; in half formats torch rounds the last
entries of a tensor, which fill no vector register, in another order."""

AGAIN = 10
"""Steps added to twice the return step when it is asked whether decay alone would have done it."""


@cache
def families() -> dict[str, Family]:
    """Every known family by the class name of its optimisers, other distributions' entries included."""
    found = entries(Family, PACKAGE, GROUP)  # type: ignore[type-abstract]
    return {kind: cls() for cls in reversed(found) for kind in cls.kinds}


def foresee(remains: Remains, horizon: int | None = None) -> tuple[Prognosis, ...]:
    """Foretells every unit of the remains.

    Args:
        remains: The units and what acts on them.
        horizon: Steps to look ahead; None for as far as is worth its time (2,000 to 100,000, by size).

    Returns:
        One prognosis for each group of units that share outlook, mechanism and exactness; soonest
        return first.
    """
    if not len(remains.units):
        return ()
    why = unknown(remains)
    if why is not None:
        return (_all_unknown(remains, why),)
    with np.errstate(all="ignore"):
        return tuple(_foresee(remains, horizon))


def unknown(remains: Remains) -> str | None:
    """Why nothing can be foretold, in words; None if it can."""
    for part in remains.parts:
        if not part.gradient_is_none and part.kind not in families():
            return f"{part.kind} is an optimiser that defib cannot foretell (it owns the {part.name})"
        missing = _family(part).lacking(Body.of(part))
        if missing is not None:
            return f"{part.kind}'s {missing} for the {part.name} was not kept"
    if not len(remains.features):
        return "no samples of what feeds the layer were kept"
    if not np.isfinite(remains.features).all():
        return "what feeds the layer holds NaN or infinity"
    width = sum(p.values.shape[1] for p in remains.parts if not (p.name == "bias" and p.values.shape[1] == 1))
    if width != remains.features.shape[1]:
        return f"the weights take {width} features and {remains.features.shape[1]} were kept"
    return None


def _family(part: Part) -> Family:
    """What moves a part."""
    return families()["" if part.gradient_is_none else part.kind]


def _moved(remains: Remains, units: NDArray[np.bool_]) -> list[Moved]:
    """Copies of the parts of some units, ready to be rolled forward."""
    found = [Moved(part=part, family=_family(part), body=Body.of(part)) for part in remains.parts]
    return [part.keep(units) for part in found]


def _foresee(remains: Remains, horizon: int | None) -> Iterator[Prognosis]:
    """The groups, in order."""
    samples = Samples(remains)
    sound = np.all([np.isfinite(p.values).all(axis=1) for p in remains.parts], axis=0)
    if not sound.all():
        yield _group(
            remains, ~sound, Outlook.UNKNOWN, Mechanism.NOTHING, "its parameters hold NaN or infinity"
        )
    if not sound.any():
        return
    limit = budget(remains) if horizon is None else horizon
    known = np.flatnonzero(sound)
    course = roll(samples, _moved(remains, sound), limit)
    if horizon is not None:
        course.first[course.first > horizon] = -1
    forces = _mechanisms(remains, samples, sound, course)
    base = grounds(remains, samples, _moved(remains, sound))
    yield from sorted(_answers(remains, known, course, forces, base), key=_order)


def _mechanisms(
    remains: Remains, samples: Samples, sound: NDArray[np.bool_], course: Course
) -> NDArray[np.intp]:
    """What each unit's answer rests on, shape (U,): positions in ``FORCES``."""
    start = _moved(remains, sound)
    decay = _strongest([part.family.decay_mechanism(part.body, part.lr(0)) for part in start])
    carried = ~np.all([_at_rest(part) for part in start], axis=0)
    forces = np.full(len(course.first), FORCES.index(decay))
    if decay is Mechanism.NOTHING:
        forces[carried] = FORCES.index(Mechanism.MOMENTUM)
    forces[course.fixed] = FORCES.index(Mechanism.NOTHING)
    both = carried & (course.first > 0) & ~course.estimated if decay is not Mechanism.NOTHING else None
    if both is not None and both.any():
        alone = [part.keep(both) for part in start]
        for part in alone:
            part.family.forget(part.body)
        latest = int(2 * course.first[both].max() + AGAIN)
        again = roll(samples, alone, latest, prove=False).first
        late = (again < 0) | (again > 2 * course.first[both] + AGAIN)
        forces[np.flatnonzero(both)[late]] = FORCES.index(Mechanism.MOMENTUM)
    return forces


def _strongest(found: Sequence[Mechanism]) -> Mechanism:
    """The decay mechanism that decides: oscillation before normalised decay before shrinking."""
    order = (Mechanism.OSCILLATION, Mechanism.NORMALISED_DECAY, Mechanism.DECAY)
    return next((m for m in order if m in found), Mechanism.NOTHING)


def _at_rest(part: Moved) -> NDArray[np.bool_]:
    """Units without stored momentum in this part, shape (U,)."""
    rest = np.ones(len(part.body.values), np.bool_)
    for name in part.family.momenta:
        if part.body.state.get(name) is not None:
            rest &= ~np.any(part.body.state[name], axis=1)
    return rest


def _answers(
    remains: Remains,
    known: NDArray[np.int64],
    course: Course,
    forces: NDArray[np.intp],
    base: Grounds,
) -> Iterator[Prognosis]:
    """One prognosis a group."""
    outlooks = np.full(len(known), OUTLOOKS.index(Outlook.BEYOND))
    outlooks[course.never] = OUTLOOKS.index(Outlook.NEVER)
    outlooks[course.first >= 0] = OUTLOOKS.index(Outlook.RETURNS)
    exact = (course.never | (course.first >= 0)) & ~(course.doubtful | course.estimated)
    exact &= remains.first_layer and all(part.dtype in FULL for part in remains.parts)
    for code, acting, sure in np.unique(np.stack([outlooks, forces, exact]), axis=1).T:
        here = (outlooks == code) & (forces == acting) & (exact == sure)
        outlook, force = OUTLOOKS[code], FORCES[acting]
        first = course.first[here]
        steps = remains.step + first if outlook is Outlook.RETURNS else np.zeros(0, np.int64)
        deep = not remains.first_layer and outlook is not Outlook.RETURNS
        yield Prognosis(
            path=remains.path,
            units=tuple(int(u) for u in remains.units[known[here]]),
            outlook=Outlook.UPSTREAM if deep else outlook,
            mechanism=Mechanism.UPSTREAM if deep else force,
            reason=worded(outlook, force, here, course, remains),
            as_of=remains.step,
            samples=remains.samples_seen,
            exact=bool(sure),
            step=int(steps.min()) if len(steps) else None,
            steps=tuple(int(s) for s in steps),
            horizon=None if outlook is not Outlook.BEYOND else course.steps,
            evidence=base.evidence(here, course),
        )


def _order(prognosis: Prognosis) -> tuple[float, int, str]:
    """Returning units first, the soonest first; then the largest group."""
    step = prognosis.step if prognosis.step is not None else np.inf
    return step, -len(prognosis.units), str(prognosis.outlook)


def _all_unknown(remains: Remains, why: str) -> Prognosis:
    """One answer for all units: it cannot be said."""
    every = np.ones(len(remains.units), np.bool_)
    return _group(remains, every, Outlook.UNKNOWN, Mechanism.NOTHING, why)


def _group(
    remains: Remains, units: NDArray[np.bool_], outlook: Outlook, mechanism: Mechanism, reason: str
) -> Prognosis:
    """A prognosis without numbers."""
    return Prognosis(
        path=remains.path,
        units=tuple(int(u) for u in remains.units[units]),
        outlook=outlook,
        mechanism=mechanism,
        reason=reason,
        as_of=remains.step,
        samples=remains.samples_seen,
        exact=False,
    )
