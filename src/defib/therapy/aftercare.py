"""Did a treatment make it worse? Judged by the losses right before it and a while after it."""

import numpy as np
from numpy.typing import NDArray

from defib.core.prescription import Safety
from defib.core.series import Series

WINDOW = 25
"""Steps after which a treatment is judged."""

LOSSES = 10
"""Losses on each side that are compared. If nothing had changed, the chance that each of 10 lies above
each of 10 others would be 1 in 184,756."""

_BEGINS_AGAIN = {Safety.CHANGES, Safety.RESTART}
"""After these the network has to learn again what it lost, and begins with the loss of a fresh one."""


def worse(losses: Series, at: int, safety: Safety, restored: bool = False) -> str:
    """Why a treatment has to be called harmful.

    Args:
        losses: Training loss, step by step, :data:`WINDOW` steps beyond the treatment.
        at: Optimiser steps taken when it was given.
        safety: What the treatment does to a network.
        restored: An older snapshot was gone back to with it.

    Returns:
        In words; "" where it did no harm, or where that cannot be told. The last :data:`LOSSES` losses
        all have to lie above all of those right before the treatment; where the network begins again,
        also above all of the run's first ones.
    """
    before = losses.values[(losses.steps >= at - LOSSES) & (losses.steps < at)]
    after = losses.values[losses.steps >= at][-LOSSES:]
    if len(after) < LOSSES or len(before) < LOSSES or not np.isfinite(before).all():
        return ""
    if not np.isfinite(after).all():
        return "the loss is no number any more"
    again = restored or safety in _BEGINS_AGAIN
    compared = np.concatenate([before, _finite(losses.values[:LOSSES])]) if again else before
    if after.min() <= compared.max():
        return ""
    return f"the loss is {np.median(after):.4g} and was {np.median(before):.4g}"


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[np.isfinite(values)]
