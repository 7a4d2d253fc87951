"""Units that fall silent and come back: how often, and after how long a silence.

Letters: ``T`` steps at hand, ``U`` units.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defib.core.reading import EPISODE_STEPS, LENGTHS


@dataclass(frozen=True, eq=False)
class Episodes:
    """Silences that are over, of at least ``EPISODE_STEPS`` steps each; only steps with a gradient count.

    Attributes:
        returns: How many there were, shape (U,).
        silent: Their steps together, shape (U,).
        lengths: How many lasted 2^i to 2^(i+1) - 1 steps, over all units, shape (LENGTHS,).
        quiet: Steps of silence up to now, shape (U,).
    """

    returns: NDArray[np.int32]
    silent: NDArray[np.int32]
    lengths: NDArray[np.int64]
    quiet: NDArray[np.int32]

    @classmethod
    def none(cls, units: int) -> "Episodes":
        """Of units that were never seen."""
        zeros = np.zeros(units, np.int32)
        return cls(zeros, zeros.copy(), np.zeros(LENGTHS, np.int64), zeros.copy())

    def see(
        self,
        alive: NDArray[np.bool_],
        count: NDArray[np.int32],
        first: NDArray[np.int64],
        last: NDArray[np.int64],
    ) -> None:
        """Takes in some steps. Where nobody was silent for long it costs a few passes over the units.

        Args:
            alive: Non-zero gradient, shape (T, U).
            count: Rows on which each unit was alive, shape (U,).
            first: First such row, shape (U,).
            last: Last such row, shape (U,).
        """
        rows, seen = len(alive), count > 0
        entered = np.where(seen, self.quiet + first, 0)
        long = np.flatnonzero(entered >= EPISODE_STEPS)
        if len(long):
            self._ended(long, entered[long])
        self.quiet[:] = np.where(seen, rows - 1 - last, self.quiet + rows)
        if rows <= EPISODE_STEPS:
            return
        # A long silence holds a whole block of half its length; only units with one are gone through.
        half = EPISODE_STEPS // 2
        blocks = alive[: rows - rows % half].reshape(-1, half, alive.shape[1]).any(1)
        gappy = np.flatnonzero(seen & (last - first > EPISODE_STEPS) & ~blocks.all(0))
        if not len(gappy):
            return
        unit, step = np.divmod(np.flatnonzero(alive[:, gappy].T.copy()), rows)
        gap = np.diff(step) - 1
        ended = (np.diff(unit) == 0) & (gap >= EPISODE_STEPS)
        self._ended(gappy[unit[1:][ended]], gap[ended])

    def _ended(self, units: NDArray[np.int64], steps: NDArray[np.int64]) -> None:
        """Silences of these units are over, a unit for each."""
        number = len(self.returns)
        self.returns[:] += np.bincount(units, minlength=number).astype(np.int32)
        self.silent[:] += np.bincount(units, weights=steps, minlength=number).astype(np.int32)
        bins = np.minimum(np.log2(steps).astype(np.int64), LENGTHS - 1)
        self.lengths[:] += np.bincount(bins, minlength=LENGTHS)
