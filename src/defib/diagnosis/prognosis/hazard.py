"""How often silent units of a layer came back in this run: a rate with its interval.

Every episode begins when a unit falls silent and ends when it receives gradient again, or is still going
on when the run was last looked at (censored). The share that is back after k steps is one minus the
survival function by Kaplan and Meier (1958), its interval from Greenwood's formula on the log-log scale.
It holds for units like those seen: same run, same layer, same phase of training.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defib.core.inference import Interval, clopper_pearson


@dataclass(frozen=True, kw_only=True)
class ReturnRate:
    """The share of silent units that is back after a number of steps.

    Attributes:
        within: The number of steps.
        share: Estimated share, 0 to 1.
        interval: Its interval.
        episodes: Episodes that it rests on.
        returned: How many of them ended in a return, at any time.
        followed: Episodes that lasted, or were seen, at least ``within`` steps, or ended in a return before:
            the others were cut off too early to tell.
        median: Steps until half of them are back; None if less than half came back.
    """

    within: int
    share: float
    interval: Interval
    episodes: int
    returned: int
    followed: int
    median: float | None


def return_rate(
    starts: ArrayLike, ends: ArrayLike, *, now: int, within: int, confidence: float = 0.95
) -> ReturnRate | None:
    """Estimates the share of silent units that is back after ``within`` steps.

    Args:
        starts: Step on which each episode began, any order.
        ends: Step on which it ended in a return; -1 (or NaN) if it still goes on.
        now: Last step that was looked at.
        within: After how many steps.
        confidence: Of the interval.

    Returns:
        The rate; None without a single episode of at least one step.
    """
    from scipy.stats import CensoredData, ecdf

    lengths, back = _lengths(starts, ends, now)
    if not len(lengths):
        return None
    curve = ecdf(CensoredData(uncensored=lengths[back], right=lengths[~back])).sf
    share = 1.0 - float(curve.evaluate(within)) if back.any() else 0.0
    followed = int((back | (lengths >= within)).sum())
    if not 0 < share < 1:
        interval = clopper_pearson(followed if share else 0, followed, confidence)
    else:
        with warnings.catch_warnings():  # where all or none are back it is undefined; those are handled above
            warnings.simplefilter("ignore", RuntimeWarning)
            bounds = curve.confidence_interval(confidence_level=confidence, method="log-log")
        low, high = float(bounds.high.evaluate(within)), float(bounds.low.evaluate(within))
        interval = Interval(low=1.0 - low, high=1.0 - high)
    halved = curve.quantiles[curve.probabilities <= 0.5]
    return ReturnRate(
        within=within,
        share=share,
        interval=interval,
        episodes=len(lengths),
        returned=int(back.sum()),
        followed=followed,
        median=float(halved[0]) if len(halved) else None,
    )


def _lengths(starts: ArrayLike, ends: ArrayLike, now: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Each episode's length in steps, and whether it ended in a return."""
    begun = np.asarray(starts, dtype=np.float64)
    ended = np.asarray(ends, dtype=np.float64)
    back = ended >= 0
    lengths = np.where(back, ended, float(now)) - begun
    return lengths[lengths > 0], back[lengths > 0]
