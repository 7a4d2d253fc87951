"""When each unit of a layer lived: first, last, how often, and how many fell silent together.

Letters: ``T`` steps at hand, ``U`` units.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defib.capture.episodes import Episodes
from defib.core.reading import EPISODE_STEPS

MASS = 20
"""One in so many units of a layer makes a silence an event: single ones come and go all the time."""


@dataclass
class UnitState:
    """Liveness of one target so far; arrays of shape (U,), -1 for never."""

    first_alive: NDArray[np.int32]
    last_alive: NDArray[np.int32]
    alive_steps: NDArray[np.int32]
    episodes: Episodes
    steps: int = 0
    last_step: int = -1

    @classmethod
    def unborn(cls, units: int) -> "UnitState":
        never, none = np.full(units, -1, np.int32), np.zeros(units, np.int32)
        return cls(never, never.copy(), alive_steps=none, episodes=Episodes.none(units))

    def see(self, alive: NDArray[np.bool_], first_step: int, known: NDArray[np.bool_]) -> int:
        """Take in the steps from ``first_step`` on.

        Args:
            alive: Non-zero gradient, shape (T, U).
            first_step: Step of row 0.
            known: Whether there was a gradient at all in that step, shape (T,).

        Returns:
            How many units fell silent together, if that is more than a few.
        """
        whole = bool(known.all())
        if not whole:
            if not known.any():
                return 0
            alive = alive & known[:, None]
        count = alive.sum(0, dtype=np.int32)
        seen = count > 0
        rows = len(alive)
        was_alive = self.last_alive == self.last_step
        first, last = _first(alive), rows - 1 - _first(alive[::-1])
        if whole:
            self.episodes.see(alive, count, first, last)
        else:  # a step without a gradient is unknown, not silent
            kept = alive[known]
            self.episodes.see(kept, count, _first(kept), len(kept) - 1 - _first(kept[::-1]))
        born = seen & (self.first_alive < 0)
        self.first_alive[born] = first_step + first[born]
        self.last_alive[seen] = first_step + last[seen]
        self.alive_steps += count
        self.steps += int(known.sum())
        self.last_step = int(first_step + np.flatnonzero(known)[-1])
        fell = int((was_alive & ~seen).sum()) if rows >= EPISODE_STEPS else 0
        return fell if fell * MASS >= len(seen) else 0


def _first(alive: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Row of the first True of each column, 0 where there is none; most units live in nearly every row."""
    found = np.zeros(alive.shape[1], np.int64)
    later = np.flatnonzero(~alive[0])
    found[later] = alive[:, later].argmax(0)
    return found
