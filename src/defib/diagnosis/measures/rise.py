"""How far a loss rose above where it started.

Letters: ``T`` steps.
"""

from dataclasses import dataclass

import numpy as np

from defib.core.series import Series


@dataclass(frozen=True, kw_only=True)
class Rise:
    """A loss above so many times its start.

    Attributes:
        start: Median of its first three finite values.
        top: Its largest finite value.
        first: First step at which it was above.
        steps: On how many steps it was.
    """

    start: float
    top: float
    first: int
    steps: int


def risen(loss: Series, times: float) -> Rise | None:
    """The steps at which a loss was above ``times`` its start.

    Args:
        loss: Step by step, shape (T,).
        times: How far above counts.

    Returns:
        The rise; None if there was none, or the start is not above zero.
    """
    values = loss.values
    finite = np.isfinite(values)
    if not finite.any():
        return None
    start = float(np.median(values[finite][:3]))
    above = np.flatnonzero(finite & (values > times * start))
    if start <= 0 or not len(above):
        return None
    return Rise(
        start=start, top=float(values[finite].max()), first=int(loss.steps[above[0]]), steps=len(above)
    )


def onset(loss: Series, times: float) -> int | None:
    """From when on a loss ran away: what was measured up to then was measured in a run in order.

    Args:
        loss: Step by step, shape (T,).
        times: How far above its start counts.

    Returns:
        The first step after the lowest loss at which it is ``times`` its start or not finite; None if
        there is none.
    """
    values = loss.values
    finite = np.isfinite(values)
    if not finite.any():
        return None
    lowest = int(np.argmin(np.where(finite, values, np.inf)))
    limit = times * abs(float(np.median(values[finite][:3])))
    above = np.flatnonzero(~finite[lowest:] | (values[lowest:] > limit)) + lowest
    return int(loss.steps[above[0]]) if len(above) else None
