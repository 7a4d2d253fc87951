"""For an autopsy: units that lived on most steps and then fell silent, seen step by step.

Letters: ``U`` units of all targets together.
"""

import numpy as np
from numpy.typing import NDArray

from defib.capture.border import Transfer
from defib.capture.vitals import Target

Indices = NDArray[np.int64]

Suspects = dict[str, tuple[int, Indices]]
"""By layer, the id of the parameter that was read, and units."""


class Pulse:
    """Liveness of one optimiser's units, looked at on every step.

    Args:
        targets: What is read, in the order of the rows; they are not kept.
        start: First step.
        aim: Which choice of targets this is (``Vitals.aims``).

    Attributes:
        pending: Step, numbers on their way and missing targets of the last step.
        units: U.
    """

    def __init__(self, targets: tuple[Target, ...], start: int, aim: int) -> None:
        self.aim = aim
        self._targets = [(t.path, id(t.parameter)) for t in targets]
        self.pending: tuple[int, Transfer, frozenset[int]] | None = None
        self._start = start
        self._bounds = np.cumsum([0, *(t.units for t in targets)])
        self.units = int(self._bounds[-1])
        self._last = np.full(self.units, -1, np.int64)
        self._count = np.zeros(self.units, np.int64)

    def see(
        self, step: int, alive: NDArray[np.bool_], missing: frozenset[int], silence: int, chance: float
    ) -> Suspects:
        """Take in one step.

        Args:
            step: Its number.
            alive: Non-zero gradient, shape (U,); written to.
            missing: Targets without any gradient.
            silence: Steps of silence that make a suspect.
            chance: Less likely than this the silence must be, given how often the unit lived before.

        Returns:
            The units that have been silent for just so many steps, by layer.
        """
        for i in missing:
            alive[self._bounds[i] : self._bounds[i + 1]] = True  # no gradient at all tells nothing
        self._last[alive] = step
        self._count += alive
        fell = (step - self._last == silence) & (self._last >= 0)
        if not fell.any():
            return {}
        lived = np.maximum(self._last - self._start + 1, 1)
        fell &= (1 - self._count / lived) ** silence < chance
        found: Suspects = {}
        for i, (path, parameter) in enumerate(self._targets):
            units = np.flatnonzero(fell[self._bounds[i] : self._bounds[i + 1]])
            if len(units):
                found[path] = (parameter, units)
        return found
