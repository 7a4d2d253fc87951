"""The grids of floating-point numbers: what the next number is, and where numbers end.

numpy has no bfloat16, so that grid is walked by its bit patterns (the upper
half of a float32).
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

LOG_UNDERFLOW = {
    "float16": -25 * math.log(2),
    "bfloat16": -134 * math.log(2),
    "float32": -150 * math.log(2),
    "float64": -1075 * math.log(2),
}
"""Logarithm of half the smallest subnormal: a positive result not above that is rounded to 0."""


def nearest(x: float, dtype: str) -> float:
    """``x`` rounded to the grid of ``dtype`` ("float16", "bfloat16", "float32", "float64")."""
    if dtype == "float64" or not math.isfinite(x):
        return float(x)
    if dtype == "bfloat16":
        bits = int(np.float32(x).view(np.uint32))
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        return float(np.uint32(rounded).view(np.float32))
    return float(np.dtype(dtype).type(x))


def at_most(x: float, dtype: str) -> float:
    """The largest number of the grid of ``dtype`` that is not above ``x``."""
    here = nearest(x, dtype)
    return here if here <= x else below(here, dtype)


def at_least(x: float, dtype: str) -> float:
    """The smallest number of the grid of ``dtype`` that is not below ``x``."""
    return -at_most(-x, dtype)


def above(x: float, dtype: str) -> float:
    """The smallest number of the grid of ``dtype`` that is greater than ``x`` rounded to it."""
    return -below(-x, dtype)


def below(x: float, dtype: str) -> float:
    """The largest number of the grid of ``dtype`` that is less than ``x`` rounded to it."""
    here = nearest(x, dtype)
    if math.isinf(here):
        return here
    if dtype == "bfloat16":
        key = _key(int(np.float32(here if here else 0.0).view(np.uint32)) >> 16) - 1
        bits = key if key >= 0 else (-key) | 0x8000
        return float(np.uint32(bits << 16).view(np.float32))
    kind = np.dtype(dtype).type
    return float(np.nextafter(kind(here), kind(-np.inf)))


def _key(bits: int) -> int:
    """A bfloat16 bit pattern as an integer that grows with the number."""
    return -(bits & 0x7FFF) if bits & 0x8000 else bits


def single(values: ArrayLike) -> NDArray[np.float32]:
    """``values`` as float32; numpy neither warns nor raises where they are too large or too small for it.

    A finite number beyond float32 becomes its largest, not infinity: a loss of 1e40 is a large
    loss, not one that is no number.

    Args:
        values: Numbers, any shape.

    Returns:
        A new array of that shape.
    """
    wide = np.asarray(values)
    if wide.dtype == np.float32:
        return wide.copy()
    with np.errstate(all="ignore"):  # a script may have asked numpy to raise, for underflow too
        narrow = wide.astype(np.float32)
    if np.isinf(narrow).any():
        kept = np.isfinite(wide) & np.isinf(narrow)
        narrow[kept] = np.copysign(np.finfo(np.float32).max, wide[kept])
    return narrow
