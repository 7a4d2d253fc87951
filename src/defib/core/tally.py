"""Mergeable per-unit statistics: what is left of a tensor once it has been read.

Letters: ``U`` units (neurons of a Linear, channels of a convolution).
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SUMS = ("count", "positive", "zero", "saturated", "flat", "nonfinite", "total", "squares")


@dataclass(frozen=True, kw_only=True, eq=False)
class Tally:
    """Sufficient statistics of one signal, unit by unit.

    A commutative monoid under :meth:`merge` with :meth:`empty` as its neutral
    element: ``tally(a + b) == tally(a).merge(tally(b))``. Non-finite entries are
    counted in ``nonfinite`` and enter no other statistic but ``count``.

    Attributes:
        samples: Independent samples seen (rows of the batch). Entries of one
            image or sequence are correlated, so statements of confidence use
            this number, not ``count``.
        count: Entries seen, shape (U,).
        positive: Entries > 0 (a ReLU "fires"), shape (U,).
        zero: Entries exactly 0, shape (U,).
        saturated: Entries whose activation derivative is below 1 % of that
            activation's largest, shape (U,); 0 where no derivative applies.
        flat: Entries whose activation derivative is exactly 0 in the tensor's
            own dtype, shape (U,).
        nonfinite: NaN or infinite entries, shape (U,).
        total: Sum of the finite entries, shape (U,).
        squares: Sum of their squares, shape (U,).
        low: Smallest finite entry, shape (U,); +inf if none.
        high: Largest finite entry, shape (U,); -inf if none.
    """

    samples: int
    count: Array
    positive: Array
    zero: Array
    saturated: Array
    flat: Array
    nonfinite: Array
    total: Array
    squares: Array
    low: Array
    high: Array

    @classmethod
    def empty(cls, units: int) -> Self:
        """The tally of nothing: the neutral element of :meth:`merge`."""
        sums = {name: np.zeros(units) for name in _SUMS}
        return cls(samples=0, low=np.full(units, np.inf), high=np.full(units, -np.inf), **sums)

    @property
    def units(self) -> int:
        """Number of units U."""
        return len(self.count)

    def merge(self, other: Self) -> Self:
        """The tally of both samples together.

        Returns:
            A new tally of the same number of units.

        Raises:
            ValueError: If the two do not have the same number of units.
        """
        if self.units != other.units:
            raise ValueError(f"cannot merge a tally of {self.units} units with one of {other.units}")
        sums = {name: getattr(self, name) + getattr(other, name) for name in _SUMS}
        return type(self)(
            samples=self.samples + other.samples,
            low=np.minimum(self.low, other.low),
            high=np.maximum(self.high, other.high),
            **sums,
        )

    @property
    def finite(self) -> Array:
        """Finite entries seen, shape (U,)."""
        return self.count - self.nonfinite

    @property
    def mean(self) -> Array:
        """Mean of the finite entries, shape (U,); NaN where there are none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.total / np.where(self.finite > 0, self.finite, np.nan)

    @property
    def std(self) -> Array:
        """Standard deviation (of the population), shape (U,); NaN where there are no entries."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean_square = self.squares / np.where(self.finite > 0, self.finite, np.nan)
            return np.sqrt(np.maximum(mean_square - self.mean**2, 0.0))

    @property
    def norm(self) -> float:
        """Euclidean norm over all finite entries of all units."""
        return float(np.sqrt(self.squares.sum()))

    @property
    def rms(self) -> float:
        """Root mean square over all finite entries of all units; NaN if there are none."""
        n = float(self.finite.sum())
        return float(np.sqrt(self.squares.sum() / n)) if n else float("nan")

    def to_array(self) -> Array:
        """All per-unit statistics as one array of shape (10, U), in :meth:`rows` order."""
        return np.stack([getattr(self, name) for name in self.rows()])

    @classmethod
    def from_array(cls, samples: int, array: Array) -> Self:
        """The inverse of :meth:`to_array`."""
        values = np.asarray(array, dtype=np.float64)
        return cls(samples=samples, **dict(zip(cls.rows(), values, strict=True)))

    @classmethod
    def rows(cls) -> tuple[str, ...]:
        """Names of the per-unit statistics, in the order in which they are stored."""
        return tuple(f.name for f in fields(cls) if f.name != "samples")


def merge(tallies: Iterable[Tally]) -> Tally | None:
    """The tally of all samples together; None for no tally at all."""
    total: Tally | None = None
    for tally in tallies:
        total = tally if total is None else total.merge(tally)
    return total
