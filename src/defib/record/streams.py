"""Series that only some steps have: steps compared, curvature, and what the user logged."""

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from defib.core.optimizer import PAIR_COLUMNS, Pairs
from defib.core.series import Series
from defib.core.sharpness import SHARPNESS_COLUMNS, Sharpness
from defib.record.part import Part

_PAIR = "pair."
_SHARP = "sharp."
_LOG = "log."


def pairs(parts: Sequence[Part]) -> dict[int, Pairs]:
    """Consecutive steps compared, by optimiser; gradients are reduced over the ranks, so one rank tells."""
    tables = _tables(parts, _PAIR, PAIR_COLUMNS).items()
    return {index: Pairs(steps=steps, **values) for index, (steps, values) in tables}


def sharpness(parts: Sequence[Part]) -> dict[int, Sharpness]:
    """The largest curvature of the loss, by optimiser; it is measured in one process only."""
    tables = _tables(parts, _SHARP, SHARPNESS_COLUMNS).items()
    return {index: Sharpness(steps=steps, **values) for index, (steps, values) in tables}


def _tables(
    parts: Sequence[Part], prefix: str, names: Sequence[str]
) -> dict[int, tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]]:
    """Columns of one family, by optimiser, from the lowest rank that has them all."""
    found: dict[int, tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]] = {}
    for part in parts:
        for index in sorted({index for index, name in part.streams if name.startswith(prefix)}):
            columns = [part.streams.get((index, prefix + name)) for name in names]
            whole = [column for column in columns if column is not None]
            if index in found or len(whole) < len(names):
                continue
            # A damaged chunk is lost in one column, and a kill may come between two: what all have counts.
            steps = reduce(np.intersect1d, [column.steps for column in whole])
            kept = [column.values[np.searchsorted(column.steps, steps)] for column in whole]
            found[index] = steps, dict(zip(names, kept, strict=True))
    return found


def logged(parts: Sequence[Part]) -> dict[str, Series]:
    """What was logged, by name; of several ranks that logged the same name, the lowest one's."""
    found: dict[str, Series] = {}
    for part in parts:
        for (_, name), series in part.streams.items():
            if name.startswith(_LOG):
                found.setdefault(name.removeprefix(_LOG), series)
    return dict(sorted(found.items()))
