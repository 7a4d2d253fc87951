"""Medians and how far they can be trusted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A median with its 95 % interval.

    Attributes:
        median: The median.
        low: Lower end of the bootstrap percentile interval.
        high: Upper end.
    """

    median: float
    low: float
    high: float


def median_of(values: ArrayLike, draws: int = 4000) -> Estimate:
    """Median of independent values, with a bootstrap interval (seeded, so that it is repeatable)."""
    sample = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(sample, (draws, sample.size)), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return Estimate(median=float(np.median(sample)), low=float(low), high=float(high))
