"""What was measured, how sure it is, and what a claim says that it should be.

A claim is put as a region in which a number must lie. An estimate whose whole
interval lies inside confirms it, one whose interval lies wholly outside refutes it,
and every other leaves it undecided.

Letters: ``N`` independent repetitions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from defib.core.inference import clopper_pearson

CONFIDENCE = 0.99
"""Of every interval of the lab: of a hundred true claims one may be missed by chance."""


class Verdict(StrEnum):
    """What numbers say about a claim."""

    TRUE = "true"
    PARTLY = "partly"
    """Some of what it says holds and some does not."""
    FALSE = "false"
    UNDECIDED = "undecided"
    """An interval reaches over the border: more repetitions, or no answer."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: The best guess.
        low: Lower end; the value itself if it was counted or computed exactly.
        high: Upper end.
        n: Independent repetitions behind it.
        unit: "1" for a ratio, "steps", "decades" ...
    """

    value: float
    low: float
    high: float
    n: int
    unit: str = "1"


def exact(value: float, *, n: int = 1, unit: str = "1") -> Estimate:
    """A number without chance in it: an identity's largest error, a count over all there is."""
    value = float(value)
    return Estimate(value=value, low=value, high=value, n=n, unit=unit)


def share(hits: int, trials: int) -> Estimate:
    """A rate, with the exact interval of Clopper and Pearson (1934)."""
    bound = clopper_pearson(int(hits), int(trials), CONFIDENCE)
    value = hits / trials if trials else math.nan
    return Estimate(value=value, low=bound.low, high=bound.high, n=int(trials))


def grouped_share(hits: ArrayLike, trials: ArrayLike) -> Estimate:
    """A rate over things that come in groups: units of one network, runs on one data set.

    Things of a group are alike, so that only groups count as repetitions. Of two intervals
    the hull is taken: Student's for a ratio of sums over groups (Cochran 1977, Sampling
    techniques, section 6.3), and that of :func:`share`, which has a width where all groups agree.

    Args:
        hits: In each group, shape (G,).
        trials: Things of each group, shape (G,).

    Returns:
        The estimate, of G groups; with fewer than two it is undecidable.
    """
    from scipy.stats import t

    h, n = np.asarray(hits, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    groups, total = len(h), n.sum()
    alone = share(int(h.sum()), int(total))
    if groups < 2 or not total:
        return Estimate(value=alone.value, low=0.0, high=1.0, n=groups)
    spread = math.sqrt(float(((h - alone.value * n) ** 2).sum()) * groups / (groups - 1)) / float(total)
    half = float(t.ppf((1 + CONFIDENCE) / 2, groups - 1)) * spread
    low, high = max(0.0, alone.value - half), min(1.0, alone.value + half)
    return Estimate(value=alone.value, low=min(low, alone.low), high=max(high, alone.high), n=groups)


def mean(values: ArrayLike, *, unit: str = "1") -> Estimate:
    """The mean of independent numbers, with Student's interval.

    Args:
        values: Shape (N,), N >= 2.
        unit: Their unit.

    Returns:
        The estimate; numbers that are not finite make it undecidable.
    """
    from scipy.stats import t

    x = np.asarray(values, dtype=np.float64)
    centre = float(x.mean())
    if len(x) < 2 or not np.isfinite(centre):
        return Estimate(value=centre, low=-math.inf, high=math.inf, n=len(x), unit=unit)
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return Estimate(value=centre, low=centre - half, high=centre + half, n=len(x), unit=unit)


def median(values: ArrayLike, *, unit: str = "1") -> Estimate:
    """The median of independent numbers, with the interval of order statistics.

    Args:
        values: Shape (N,); infinities are allowed ("never").
        unit: Their unit.

    Returns:
        The estimate; with too few numbers for the confidence the interval is endless.
    """
    from scipy.stats import binom

    x = np.sort(np.asarray(values, dtype=np.float64))
    n = len(x)
    rank = int(binom.ppf((1 - CONFIDENCE) / 2, n, 0.5)) if n else 0
    low, high = (float(x[rank - 1]), float(x[n - rank])) if rank >= 1 else (-math.inf, math.inf)
    return Estimate(value=float(np.median(x)) if n else math.nan, low=low, high=high, n=n, unit=unit)


def paired_difference(first: ArrayLike, second: ArrayLike, *, unit: str = "1") -> Estimate:
    """The mean of ``first - second``, pair by pair, with Student's interval.

    Args:
        first: Shape (N,).
        second: Shape (N,), measured under the same seeds.
        unit: Their unit.

    Returns:
        The estimate.
    """
    return mean(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64), unit=unit)


@dataclass(frozen=True, kw_only=True)
class Region:
    """Where a claim says that a number lies; its ends belong to it.

    Attributes:
        low: Lower end.
        high: Upper end.
    """

    low: float = -math.inf
    high: float = math.inf

    def judge(self, estimate: Estimate) -> Verdict:
        """Whether the number lies here: TRUE, FALSE or UNDECIDED."""
        if math.isnan(estimate.value):
            return Verdict.UNDECIDED
        if self.low <= estimate.low and estimate.high <= self.high:
            return Verdict.TRUE
        if estimate.high < self.low or estimate.low > self.high:
            return Verdict.FALSE
        return Verdict.UNDECIDED

    def __str__(self) -> str:
        if self.low == self.high:
            return f"= {self.low:.4g}"
        if math.isinf(self.low):
            return f"<= {self.high:.4g}"
        if math.isinf(self.high):
            return f">= {self.low:.4g}"
        return f"{self.low:.4g} to {self.high:.4g}"


def at_most(high: float) -> Region:
    """No more than ``high``."""
    return Region(high=high)


def at_least(low: float) -> Region:
    """No less than ``low``."""
    return Region(low=low)


def between(low: float, high: float) -> Region:
    """From ``low`` to ``high``."""
    return Region(low=low, high=high)


ALWAYS = at_least(0.95)
"""What the lab takes "all", "every" and "always" to say of a share: all but accidents."""

NEVER = at_most(0.05)
"""What it takes "none" and "never" to say of a share."""

MOSTLY = at_least(0.5)
"""What it takes "most" and "usually" to say of a share."""


def near(value: float, tolerance: float) -> Region:
    """Within ``tolerance`` of ``value``; an interval must lie inside, so it is a test of equivalence."""
    return Region(low=value - tolerance, high=value + tolerance)


def joined(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a claim of several parts.

    Returns:
        PARTLY if one holds and another does not, whatever else is open; TRUE if all hold, FALSE if
        none does; else UNDECIDED.
    """
    kinds = set(verdicts)
    if Verdict.PARTLY in kinds or {Verdict.TRUE, Verdict.FALSE} <= kinds:
        return Verdict.PARTLY
    if not kinds or Verdict.UNDECIDED in kinds:
        return Verdict.UNDECIDED
    return kinds.pop()
