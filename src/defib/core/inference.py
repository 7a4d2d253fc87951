"""Statements with a bound: intervals for rates, trends and change points.

scipy is imported when it is needed, so that reading a record stays light.

Letters: ``N`` numbers in a series.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: Lower end.
        high: Upper end.
    """

    low: float
    high: float


def rate_bound(trials: float, confidence: float = 0.95) -> float:
    """Upper bound of a rate of which 0 of ``trials`` were seen: 1 - (1 - c)^(1/n), about 3 / n at 95 %.

    This is the exact form of the rule of three (Hanley and Lippman-Hand 1983).

    Returns:
        The bound, between 0 and 1; 1 if there were no trials.
    """
    return -math.expm1(math.log1p(-confidence) / trials) if trials > 0 else 1.0


def clopper_pearson(hits: int, trials: int, confidence: float = 0.95) -> Interval:
    """The exact interval of a rate (Clopper and Pearson 1934).

    Returns:
        Quantiles of two beta distributions; (0, 1) if there were no trials.
    """
    from scipy.stats import beta

    if trials <= 0:
        return Interval(low=0.0, high=1.0)
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    high = float(beta.isf(tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return Interval(low=low, high=high)


def chance_of_silence(active: Array, seen: Array, silent: Array) -> Array:
    """How likely ``silent`` inactive steps are for units that were active on ``active`` of ``seen`` steps.

    The rate is taken a little low, (active) / (seen + 1), so that a short history counts for little.

    Returns:
        (1 - rate)^silent, elementwise; 1 where there is no history.
    """
    rate = np.divide(active, seen + 1.0, out=np.zeros_like(active, dtype=np.float64), where=seen > 0)
    return np.asarray((1.0 - np.clip(rate, 0.0, 1.0)) ** silent)


def block_medians(values: Array, blocks: int) -> Array:
    """Medians of ``blocks`` runs of nearly equal length: what is left of a noisy series.

    Returns:
        Shape (min(N, blocks),); blocks without a finite number are left out.
    """
    parts = np.array_split(values, max(1, min(len(values), blocks)))
    kept = [part[np.isfinite(part)] for part in parts]
    return np.array([np.median(part) for part in kept if len(part)])


def noise(values: Array) -> float:
    """Standard deviation of a series about its own slow course, from first differences.

    The median of |x[t+1] - x[t]| is 0.954 standard deviations for independent
    normal noise, and a slow trend or a single jump does not enter it.

    Returns:
        The deviation; 0 for fewer than two numbers.
    """
    return float(np.median(np.abs(np.diff(values))) / 0.9539) if len(values) > 1 else 0.0


def falling(values: Array) -> float:
    """One-sided p-value of the Mann-Kendall test for a downward trend, ties corrected.

    Returns:
        A small number if the series falls; 1 for fewer than four numbers or a constant.
    """
    n = len(values)
    if n < 4:
        return 1.0
    order = np.sign(values[None, :] - values[:, None])
    score = float(np.triu(order, 1).sum())
    _, ties = np.unique(values, return_counts=True)
    spread = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    if spread <= 0 or score >= 0:
        return 1.0
    return 0.5 * math.erfc(-(score + 1) / math.sqrt(2 * spread))


def change_point(values: Array) -> tuple[int, float]:
    """The place where a series most likely changes its level, by Pettitt's rank test.

    Returns:
        Index of the first number after the change, and the test's p-value.
    """
    n = len(values)
    if n < 4:
        return 0, 1.0
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable") + 1.0
    score = np.abs(2 * np.cumsum(ranks)[:-1] - np.arange(1, n) * (n + 1))
    place = int(np.argmax(score))
    return place + 1, min(1.0, 2 * math.exp(-6 * float(score[place]) ** 2 / (n**3 + n**2)))
