"""A number step by step."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Series:
    """A number step by step.

    Attributes:
        steps: Optimiser steps, shape (T,), increasing.
        values: The numbers, shape (T,); NaN or infinity are real readings.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    @classmethod
    def empty(cls) -> "Series":
        """A series without a single point."""
        return cls(steps=np.zeros(0, np.int64), values=np.zeros(0))

    def __len__(self) -> int:
        return len(self.steps)
