"""Fewer numbers with the same look: what a page shows of a long run.

A screen has a thousand columns, a run a hundred thousand steps. Of the steps that fall into one
bucket a curve keeps the lowest and the highest, so that no spike is lost; a grid keeps the most
unusual one of each row.

Letters: ``T`` steps, ``R`` rows, ``C`` columns of a grid.
"""

import base64
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defib.core.series import Series

Array = NDArray[np.float64]

MOST_POINTS = 1200
"""Points of a curve: the lowest and the highest of 600 buckets."""
MOST_COLUMNS = 200
"""Columns of a grid."""
_MOST_BROKEN = 50
_DIGITS = 6


def curve(series: Series, name: str, most: int = MOST_POINTS) -> dict[str, Any]:
    """A series as JSON-able data, thinned.

    Args:
        series: Any number of points.
        name: What it is.
        most: Points kept, at least 4.

    Returns:
        ``name``, ``steps``, ``values`` (None where not finite), ``broken`` (the first steps with a
        value that is not finite), ``points`` (how many there were), ``thinned``.
    """
    steps = np.asarray(series.steps, dtype=np.int64)
    values = np.asarray(series.values, dtype=np.float64)
    kept = _extremes(values, most)
    broken = steps[~np.isfinite(values)][:_MOST_BROKEN]
    return {
        "name": name,
        "steps": steps[kept].tolist(),
        "values": [rounded(v) for v in values[kept].tolist()],
        "broken": broken.tolist(),
        "points": len(values),
        "thinned": len(kept) < len(values),
    }


def _extremes(values: Array, most: int) -> NDArray[np.int64]:
    """Indices of the lowest and the highest value of each bucket, and of the first and the last value."""
    count = len(values)
    if count <= most:
        return np.arange(count)
    edges = np.linspace(0, count, most // 2, dtype=np.int64)  # one bucket less: the two ends come on top
    low, high = np.where(np.isfinite(values), values, np.inf), np.where(np.isfinite(values), values, -np.inf)
    kept = {0, count - 1}
    for start, end in pairwise(edges.tolist()):
        kept |= {start + int(low[start:end].argmin()), start + int(high[start:end].argmax())}
    return np.array(sorted(kept), dtype=np.int64)


def rounded(value: float) -> float | None:
    """A number with as many digits as a page can use; None for one that is not finite."""
    return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None


def bucketed(steps: NDArray[np.int64], values: Array, most: int = MOST_COLUMNS) -> tuple[list[int], Array]:
    """Fewer columns: of each bucket the value that is furthest from its row's median.

    Args:
        steps: Shape (T,), increasing.
        values: Shape (R, T); NaN for nothing seen; infinite values are the most unusual ones.
        most: Columns kept.

    Returns:
        The first step of each bucket, and the values, shape (R, C).
    """
    if len(steps) <= most:
        return steps.tolist(), values
    edges = np.unique(np.linspace(0, len(steps), most + 1, dtype=np.int64))
    distance = np.where(np.isnan(values), -1.0, np.abs(values - _medians(values)))
    thinned = np.empty((len(values), len(edges) - 1))
    rows = np.arange(len(values))
    for column, (start, end) in enumerate(pairwise(edges.tolist())):
        thinned[:, column] = values[rows, start + distance[:, start:end].argmax(axis=1)]
    return steps[edges[:-1]].tolist(), thinned


def grid(
    values: Array,
    steps: Sequence[int],
    end: int,
    *,
    low: float | None = None,
    high: float | None = None,
    log: bool = False,
    bits: int = 16,
) -> dict[str, Any]:
    """A table of numbers as JSON-able data: whole numbers of 8 or 16 bits between two ends.

    Code 0 is "nothing seen", the largest code "not finite", and what lies between them is spread
    evenly from ``low`` to ``high``. In a table of logarithms code 1 is the number 0.

    Args:
        values: Shape (R, C); NaN for nothing seen.
        steps: First step of each column, length C.
        end: Step after the last column.
        low: Value of the first code; None for the smallest one.
        high: Value of the last code but one; None for the largest one.
        log: The values are decimal logarithms; a page shows 10 to their power.
        bits: 8 or 16.

    Returns:
        ``rows``, ``cols``, ``steps``, ``end``, ``low``, ``high``, ``log``, ``bits``, ``data`` (base64,
        row by row, little-endian).
    """
    finite = values[np.isfinite(values)]
    low = float(finite.min()) if low is None and len(finite) else (low or 0.0)
    high = float(finite.max()) if high is None and len(finite) else (high if high is not None else 1.0)
    top, first = (1 << bits) - 2, 2 if log else 1
    span = (high - low) or 1.0
    with np.errstate(invalid="ignore"):
        codes = np.clip(np.rint((values - low) / span * (top - first)) + first, 1, top)
    codes = np.where(np.isnan(values), 0, np.where(np.isinf(values), top + 1, codes))
    codes = np.where(np.isneginf(values), 1, codes) if log else codes
    data = codes.astype("<u1" if bits == 8 else "<u2").tobytes()
    return {
        "rows": int(values.shape[0]),
        "cols": int(values.shape[1]),
        "steps": [int(s) for s in steps],
        "end": int(end),
        "low": low,
        "high": high,
        "log": log,
        "bits": bits,
        "data": base64.b64encode(data).decode("ascii"),
    }


def _medians(values: Array) -> Array:
    """Median of each row's finite values, shape (R, 1); 0 for a row without any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a row without a number has no median
        middle = np.nanmedian(np.where(np.isfinite(values), values, np.nan), axis=1, keepdims=True)
    return np.where(np.isfinite(middle), middle, 0.0)
