"""Prognoses in sentences."""

import numpy as np
from numpy.typing import NDArray

from defib.core.prognosis import Mechanism, Outlook
from defib.core.remains import Remains
from defib.diagnosis.prognosis.course import Course

CARRIES = {
    Mechanism.NOTHING: "nothing that the optimiser does",
    Mechanism.MOMENTUM: "the optimiser's stored momentum",
    Mechanism.DECAY: "weight decay, which does not shrink all of its parameters alike,",
    Mechanism.OSCILLATION: "weight decay together with momentum, which overshoots zero,",
    Mechanism.NORMALISED_DECAY: "weight decay, divided by its own size,",
}
"""What moves a unit, as the subject of a sentence."""

STANDS = {
    Mechanism.NOTHING: "neither momentum nor decay moves it",
    Mechanism.MOMENTUM: "the stored momentum runs out before it fires",
    Mechanism.DECAY: "decay shrinks its pre-activations towards a value at which it is silent",
    Mechanism.OSCILLATION: "decay and momentum do not lift it",
    Mechanism.NORMALISED_DECAY: "decay does not lift it",
}
"""Why it will never fire, as a clause."""


def worded(
    outlook: Outlook, force: Mechanism, units: NDArray[np.bool_], course: Course, remains: Remains
) -> str:
    """One sentence for a group of units.

    Args:
        outlook: Their outlook if the features stand still.
        force: Their mechanism.
        units: Which units of the course, shape (U,).
        course: What became of them.
        remains: What was known about them.

    Returns:
        The sentence, without a full stop at its end.
    """
    said = _said(outlook, force, units, course, remains)
    if remains.first_layer:
        return said
    if outlook is Outlook.RETURNS:
        return f"if the layers that feed it stood still: {said}; their movement can bring it sooner, or not"
    return f"not by itself ({said}); only if the layers that feed it move"


def _said(
    outlook: Outlook, force: Mechanism, units: NDArray[np.bool_], course: Course, remains: Remains
) -> str:
    """The sentence, the features standing still."""
    if outlook is Outlook.RETURNS:
        return _returns(force, course.first[units], bool(course.estimated[units].any()), remains)
    if outlook is Outlook.BEYOND:
        return f"it does not fire within {course.steps:,} more steps; later was not excluded"
    if course.fixed[units].all():
        return "its parameters do not change any more: what acts on them is lost in rounding"
    close = " (by less than the rounding of the forward pass)" if course.doubtful[units].any() else ""
    return f"{STANDS[force]}{close}, on all {len(remains.features):,} samples kept"


def _returns(force: Mechanism, ahead: NDArray[np.int64], estimated: bool, remains: Remains) -> str:
    """That units fire again, and when."""
    if not ahead.max():
        return "it fires on the samples kept: it is not silent"
    soonest, latest = int(ahead.min()), int(ahead.max())
    when = f"{soonest:,}" if soonest == latest else f"{soonest:,} to {latest:,}"
    steps = "step" if latest == 1 else "steps"
    how = "about " if estimated else ""
    return f"{CARRIES[force]} brings it back in {how}{when} {steps} (as of step {remains.step:,})"
