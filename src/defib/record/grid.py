"""Numbers on a grid: sampled steps by parameters, sampled steps by sites; of one rank or several.

Letters: ``R`` sampled steps, ``P`` parameters.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from defib.core.evidence import Unseen
from defib.core.optimizer import Norms
from defib.core.site import Signal, Site
from defib.record.part import Part

MOST_VALUES = 1 << 25
"""Largest matrix of steps by parameters, or steps by sites; beyond it steps are left out evenly."""


def _thinned(steps: NDArray[np.int64], width: int, what: str, unseen: list[Unseen]) -> NDArray[np.int64]:
    """Evenly fewer steps if a matrix of that width would be too large."""
    every = -(-len(steps) * max(1, width) // MOST_VALUES)
    if every <= 1:
        return steps
    unseen.append(Unseen(what="run", why=f"of {what}, only every {every}th sampled step was read back"))
    return steps[::every]


def norms(parts: Sequence[Part], unseen: list[Unseen]) -> Norms | None:
    """Every parameter's norms on every sampled step; NaN where they were not taken."""
    blocks = [block for part in parts for block in part.norms]
    if not blocks:
        return None
    names = tuple(dict.fromkeys(name for block in blocks for name in block.parameters))
    steps = np.unique(np.concatenate([block.steps for block in blocks]))
    steps = _thinned(steps, 4 * len(names), "norms", unseen)
    column = {name: index for index, name in enumerate(names)}
    values = np.full((4, len(steps), len(names)), np.nan)
    for block in reversed(blocks):  # the lowest rank is written last and stays
        keep, at = _kept(block.steps, steps)
        if block.parameters and keep.any():
            columns = [column[name] for name in block.parameters]
            values[:, at[:, None], columns] = block.values[keep].transpose(1, 0, 2)
    gradient, weight, update, swallowed = values
    return Norms(
        parameters=names, steps=steps, gradient=gradient, weight=weight, update=update, swallowed=swallowed
    )


def _kept(some: NDArray[np.int64], steps: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which of ``some`` are in ``steps`` (sorted), and where those are."""
    at = np.searchsorted(steps, some)
    keep = steps[np.minimum(at, len(steps) - 1)] == some if len(steps) else np.zeros(len(some), bool)
    return keep, at[keep]


def flow(
    parts: Sequence[Part], unseen: list[Unseen]
) -> tuple[NDArray[np.int64], dict[tuple[Site, Signal], NDArray[np.float64]]]:
    """RMS over the entries of all ranks: the root of the mean of their squares, shape (R,) for each site."""
    seen = [part for part in parts if part.flow is not None]
    if not seen:
        return np.zeros(0, np.int64), {}
    spots = tuple(dict.fromkeys(spot for part in seen for spot in part.spots.values()))
    steps = np.unique(np.concatenate([part.flow.step for part in seen if part.flow is not None]))
    steps = _thinned(steps, len(spots), "flow", unseen)
    row = {spot: index for index, spot in enumerate(spots)}
    matrices = [_matrix(part, row, steps) for part in seen]
    whole = matrices[0] if len(matrices) == 1 else _root_mean_square(np.stack(matrices))
    return steps, {spot: whole[index] for spot, index in row.items() if not np.isnan(whole[index]).all()}


def _matrix(part: Part, row: dict[tuple[Site, Signal], int], steps: NDArray[np.int64]) -> NDArray[np.float64]:
    matrix = np.full((len(row), len(steps)), np.nan)
    if part.flow is None:
        return matrix
    keep, at = _kept(part.flow.step, steps)
    places, values = part.flow.place[keep], part.flow.value[keep]
    numbers = np.array(sorted(part.spots), dtype=np.int64)
    rows = np.array([row[part.spots[number]] for number in sorted(part.spots)], dtype=np.int64)
    known, where = _kept(places, numbers)
    matrix[rows[where], at[known]] = values[known]
    return matrix


def _root_mean_square(stack: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the first axis, without overflow; NaN is missing."""
    seen = ~np.isnan(stack)
    count = seen.sum(axis=0)
    values = np.where(seen, stack, 0.0)
    largest = values.max(axis=0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        scaled = np.where(largest > 0, values / largest, 0.0)
        root = largest * np.sqrt((scaled**2).sum(axis=0) / count)
    root = np.where(np.isinf(largest), largest, root)
    return np.where(count > 0, root, np.nan)
