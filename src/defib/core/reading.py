"""What was seen of a signal on sampled steps, and of every unit's gradient on every step.

Letters: ``U`` units of a layer.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defib.core.site import Signal, Site
from defib.core.tally import Tally


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one signal looked like over a window of sampled steps.

    Attributes:
        site: Where.
        signal: Which signal.
        first: First sampled step in the window.
        last: Last sampled step in the window.
        tally: The per-unit statistics, merged over the window.
    """

    site: Site
    signal: Signal
    first: int
    last: int
    tally: Tally

    # What a large record tells without unpacking the tally; see record.shelf.

    @property
    def samples(self) -> int:
        """``tally.samples``."""
        return self.tally.samples

    @property
    def units(self) -> int:
        """``tally.units``."""
        return self.tally.units

    @property
    def entries(self) -> float:
        """Finite entries of all units."""
        return float(self.tally.finite.sum())

    @property
    def norm(self) -> float:
        """``tally.norm``."""
        return self.tally.norm


EPISODE_STEPS = 8
"""Steps without a gradient from which a silence is an episode: a sparse unit is often silent for a few."""


LENGTHS = 32
"""Classes by powers of two into which the lengths of episodes are sorted."""


@dataclass(frozen=True, kw_only=True)
class Liveness:
    """For every unit of a layer: did it receive any gradient, step by step.

    A unit whose bias gradient is exactly 0 fired for no sample of that step, or
    everything above it was blocked; readings tell the two apart.

    Attributes:
        path: The layer.
        source: The parameter that was read ("fc1.bias", "bn1.bias", "rows of fc1.weight").
        steps: Steps on which it was read.
        last_step: Last step on which it was read; -1 if none.
        period: Steps between two reads (1: every step, deaths are exact).
        first_alive: Step of the first non-zero gradient, shape (U,); -1 never.
        last_alive: Step of the last non-zero gradient, shape (U,); -1 never.
        alive_steps: On how many steps it was non-zero, shape (U,).
        batch: Mean samples a step, for the rule of three; 0 if unknown.
        returns: Silences of at least ``EPISODE_STEPS`` steps that each unit came back from, shape (U,);
            None in records of before.
        silent_before: Steps of those silences together, shape (U,); None likewise.
        lengths: How many of those silences lasted 2^i to 2^(i+1) - 1 steps, over all units, shape
            (LENGTHS,); None likewise.
    """

    path: str
    source: str
    steps: int
    last_step: int
    period: int
    first_alive: NDArray[np.int64]
    last_alive: NDArray[np.int64]
    alive_steps: NDArray[np.int64]
    batch: float = 0.0
    returns: NDArray[np.int64] | None = None
    silent_before: NDArray[np.int64] | None = None
    lengths: NDArray[np.int64] | None = None

    @property
    def silent_steps(self) -> NDArray[np.int64]:
        """Steps since the last gradient, shape (U,); all of them if there was none."""
        return np.asarray(self.last_step - self.last_alive, dtype=np.int64)
