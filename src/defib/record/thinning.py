"""Which windows of a place become one when a record comes near its size limit.

Windows follow each other geometrically (``capture.windows``), so that a long run has tens of
them at every place. Where they do not all find room, the two neighbours that lie closest
together, as a ratio of steps, become one whenever a new window comes: what is left are
windows spread evenly over the logarithm of time, of which the newest is always whole. All
places that have the same windows have the same ones afterwards, for signals are compared
window by window.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Held:
    """A window of one place that stands in the file.

    Attributes:
        first: First sampled step in it.
        last: Last sampled step in it.
        units: Units of its tally.
        row: Its row of table ``reading``.
        bytes: What it takes there.
    """

    first: int
    last: int
    units: int
    row: int
    bytes: int


def closest(windows: Sequence[Held]) -> int | None:
    """Which window is to become one with the next.

    Args:
        windows: Those of one place, in order of time.

    Returns:
        Its index; None if no two neighbours have the same units.
    """
    pairs = [i for i in range(len(windows) - 1) if windows[i].units == windows[i + 1].units]
    return min(pairs, key=lambda i: (windows[i + 1].last + 1) / (windows[i].first + 1), default=None)
