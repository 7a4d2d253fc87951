"""A loss that does not change at all: arithmetic, not judgement."""

import numpy as np

from defib.core.series import Series

ALL_OF_THEM = 50
"""Fewer equal losses than this may still be chance (a loss of few values, the same batch again)."""


def unchanged(loss: Series) -> bool:
    """Whether every loss of a run is the same to the last bit, and not zero.

    Returns:
        False for fewer than :data:`ALL_OF_THEM` losses.
    """
    values = loss.values
    same = len(values) >= ALL_OF_THEM and bool(np.isfinite(values).all()) and float(np.ptp(values)) == 0
    return same and float(values[0]) != 0
