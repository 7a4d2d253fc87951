"""Where units fire: their pre-activations on the kept samples.

Letters: ``N`` samples, ``U`` units, ``D`` entries of one parameter of one unit.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from defib.core.remains import Part, Remains
from defib.diagnosis.prognosis.arithmetic import EPSILON, Array, Exact

BLOCK = 8192
"""Samples that are worked on at once."""


class Samples:
    """The kept features of a layer, and what units make of them.

    Pre-activations are computed in float64 from the parameters as they are stored. A forward pass in
    float32 rounds, and by how much depends on how its library orders the sum; ``blur`` bounds that.
    """

    def __init__(self, remains: Remains) -> None:
        self.features = np.asarray(remains.features, dtype=np.float64)
        self.threshold = remains.threshold
        self.columns = _columns(remains.parts)
        self.low, self.high = self.features.min(axis=0), self.features.max(axis=0)
        self.largest = np.abs(self.features).max(axis=0)
        self.epsilon = max(EPSILON[part.dtype] for part in remains.parts)

    def part(self, index: int, values: Array, rows: slice = slice(None)) -> Exact:
        """What one part adds to the pre-activation, shape (N, U), or (1, U) for a bias."""
        columns = self.columns[index]
        wide = np.asarray(values, dtype=np.float64)
        return wide.T if columns is None else np.asarray(self.features[rows, columns] @ wide.T)

    def highest(self, values: Sequence[Array]) -> Exact:
        """Largest pre-activation over the samples, less the threshold, shape (U,)."""
        peak = np.full(len(values[0]), -np.inf)
        for start in range(0, len(self.features), BLOCK):
            rows = slice(start, start + BLOCK)
            sums = sum(self.part(i, v, rows) for i, v in enumerate(values))
            peak = np.maximum(peak, np.max(sums, axis=0))
        return np.asarray(peak - self.threshold)

    def rise(self, moves: Sequence[Exact]) -> Exact:
        """Upper bound of the change of any sample's pre-activation if parts change by ``moves``, shape (U,).

        The bound is reached at a corner of the features' range.

        Returns:
            Sum over entries of the larger of move x lowest and move x highest feature.
        """
        total = np.zeros(len(moves[0]))
        for columns, move in zip(self.columns, moves, strict=True):
            if columns is None:
                total += move[:, 0]
            else:
                up, down = np.maximum(move, 0.0), np.minimum(move, 0.0)
                total += up @ self.high[columns] + down @ self.low[columns]
        return total

    def size(self, values: Sequence[Array]) -> Exact:
        """Upper bound of the sum of |value x feature| over entries, shape (U,)."""
        total = np.zeros(len(values[0]))
        for columns, value in zip(self.columns, values, strict=True):
            wide = np.abs(value, dtype=np.float64)
            total += wide[:, 0] if columns is None else wide @ self.largest[columns]
        return total

    def blur(self, values: Sequence[Array]) -> Exact:
        """How far a forward pass in the parameters' own format may be off, shape (U,)."""
        return 4 * self.epsilon * self.size(values)

    def length(self, values: Sequence[Array]) -> Exact:
        """Euclidean norm of the weights without the bias, shape (U,)."""
        pairs = zip(self.columns, values, strict=True)
        wide = [np.asarray(v, dtype=np.float64) for columns, v in pairs if columns is not None]
        return np.sqrt(sum((np.square(v).sum(axis=1) for v in wide), np.zeros(len(values[0]))))


class Sentry:
    """Tells on which step units fire, without multiplying by all samples on every step.

    Between two full looks the features' range bounds how far a pre-activation can have risen; only
    units that the bound cannot clear are looked at. Nothing in between is missed.
    """

    def __init__(self, samples: Samples, values: Sequence[Array]) -> None:
        self.samples = samples
        self.seen = [np.asarray(v, dtype=np.float64).copy() for v in values]
        self.peak = samples.highest(values)
        self.bound = self.peak.copy()
        self.slack = 1e-13 * samples.size(values)

    def look(self, values: Sequence[Array]) -> NDArray[np.bool_]:
        """Units that fire with these values, shape (U,); ``bound`` bounds every unit's pre-activation."""
        moves = [np.subtract(v, seen, dtype=np.float64) for v, seen in zip(values, self.seen, strict=True)]
        self.bound = self.peak + self.samples.rise(moves) + self.slack
        near = np.flatnonzero(~(self.bound <= 0))
        firing = np.zeros(len(self.peak), dtype=np.bool_)
        if len(near):
            close = [v[near] for v in values]
            for seen, value in zip(self.seen, close, strict=True):
                seen[near] = value
            self.peak[near] = self.bound[near] = self.samples.highest(close)
            self.slack[near] = 1e-13 * self.samples.size(close)
            firing[near] = self.peak[near] > 0
        return firing

    def keep(self, units: NDArray[np.bool_]) -> None:
        """Goes on with these units only."""
        self.seen = [seen[units] for seen in self.seen]
        self.peak, self.bound, self.slack = self.peak[units], self.bound[units], self.slack[units]


def _columns(parts: Sequence[Part]) -> list[slice | None]:
    """Each part's columns of the features; None for the bias."""
    found: list[slice | None] = []
    start = 0
    for part in parts:
        width = part.values.shape[1]
        if part.name == "bias" and width == 1:
            found.append(None)
        else:
            found.append(slice(start, start + width))
            start += width
    return found
