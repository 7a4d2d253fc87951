"""How large a part of a step kills a unit whose features move: a search along the step.

At theta0 + alpha (theta1 - theta0) the passes are made again; H(alpha) is the largest pre-activation of
a unit over the batch there. H(0) > 0 >= H(1), and wanted is the first alpha at which it leaves the
positive side. H is continuous and made of pieces that are polynomials in alpha, so that the secant
through the two ends of a small bracket nearly hits it; the pass after that closes the bracket from the
other side. One pass serves all units of all layers.

Letters: ``K`` units of all layers together.
"""

from collections.abc import Mapping
from time import monotonic

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defib.core.kill import Inquest
from defib.probe.rerun import rerun

Array = NDArray[np.float64]

GRID = 8
"""Parts of the step that are looked at first: a unit that dies, comes back and dies again within one of
them is taken to die once."""

TOLERANCE = 2e-3
"""Width of a bracket, relative to its upper end, at which it is narrow enough."""

_MOST_PASSES = 400


class Search:
    """H along the step, for some units of some layers.

    Args:
        inquest: Parameters and passes.
        wanted: For each layer its units and the edge of its activation's off side.
    """

    def __init__(self, inquest: Inquest, wanted: Mapping[str, tuple[NDArray[np.int64], float]]) -> None:
        self.paths = tuple(wanted)
        self.sizes = [len(units) for units, _ in wanted.values()]
        self.seconds = inquest.seconds
        self._inquest = inquest
        self._units = {path: (torch.as_tensor(units), low) for path, (units, low) in wanted.items()}
        self._tops: dict[float, Array] = {}

    def top(self, alpha: float) -> Array:
        """H(alpha) of every unit, layer after layer, shape (K,)."""
        if alpha not in self._tops:
            inquest = self._inquest
            values = between(inquest.before, inquest.after, alpha)
            uses = rerun(inquest.model, values, inquest.calls, self.paths).uses
            tops = []
            for path, (units, low) in self._units.items():
                rows = [u.rows(u.weight, u.bias, u.features, units) for u in (x.double() for x in uses[path])]
                tops.append(torch.cat(rows).max(0).values.cpu().numpy() - low)
            self._tops[alpha] = np.concatenate(tops)
        return self._tops[alpha]


def between(before: Mapping[str, Tensor], after: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Parameters on the line, computed in float64: the ends are hit exactly."""
    found = {}
    for name, old in before.items():
        new = after[name]
        if old.is_floating_point() and 0 < alpha < 1:
            found[name] = (old.double() + alpha * (new.double() - old.double())).to(old.dtype)
        else:
            found[name] = new if alpha >= 1 else old
    return found


def first_deaths(search: Search) -> dict[str, tuple[Array, Array, Array]]:
    """For units that are alive before the step and dead after it, the part of the step that kills.

    Args:
        search: The units.

    Returns:
        By layer the estimate, a part with the unit alive and a part with it dead, each of shape (K,).
    """
    until = monotonic() + search.seconds
    low, high = _brackets(search)
    top_low = np.array([search.top(a)[i] for i, a in enumerate(low)])
    top_high = np.array([search.top(a)[i] for i, a in enumerate(high)])
    stalled = np.zeros(len(low))
    for _ in range(_MOST_PASSES):
        width = (high - low) / high
        i = int(np.argmax(width))
        if width[i] <= TOLERANCE or monotonic() > until:
            break
        alpha = _next(low[i], high[i], top_low[i], top_high[i], halve=stalled[i] >= 3)
        top = search.top(alpha)
        inside = (low < alpha) & (alpha < high)
        alive = inside & (top > 0)
        low[alive], top_low[alive] = alpha, top[alive]
        dead = inside & ~alive
        high[dead], top_high[dead] = alpha, top[dead]
        stalled[i] = stalled[i] + 1 if (high[i] - low[i]) / high[i] > width[i] / 2 else 0
    estimate = np.clip(_secant(low, high, top_low, top_high), low, high)
    ends = np.cumsum([0, *search.sizes])
    return {
        path: (estimate[a:b], low[a:b], high[a:b])
        for path, a, b in zip(search.paths, ends, ends[1:], strict=False)
    }


def _brackets(search: Search) -> tuple[Array, Array]:
    """The first part of the grid at whose end each unit is dead."""
    grid = np.linspace(0.0, 1.0, GRID + 1)
    dead = np.array([search.top(float(a)) <= 0 for a in grid[1:]])
    first = np.argmax(dead, axis=0)
    return grid[first].copy(), grid[first + 1].copy()


def _secant(low: Array, high: Array, top_low: Array, top_high: Array) -> Array:
    """Where the line through the two ends is 0."""
    fall = np.maximum(top_low - top_high, 1e-300)
    return low + (high - low) * np.clip(top_low / fall, 0.0, 1.0)


def _next(low: float, high: float, top_low: float, top_high: float, *, halve: bool) -> float:
    """The next part to look at: just beyond the secant's, on the far end's side, to close the bracket."""
    if halve or not np.isfinite(top_low - top_high):
        return (low + high) / 2
    guess = low + (high - low) * min(max(top_low / max(top_low - top_high, 1e-300), 0.0), 1.0)
    push = 0.4 * TOLERANCE * high
    guess = guess + push if high - guess > guess - low else guess - push
    margin = 0.01 * (high - low)
    return float(min(max(guess, low + margin), high - margin))
