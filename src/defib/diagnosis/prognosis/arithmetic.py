"""torch's elementwise kernels (CPU) in numpy: the same operations, rounded at the same places.

torch forms ``a + alpha * b`` with one rounding (a fused multiply-add), which numpy does not have. For
float32 it is done here in float64, where the product of two float32 numbers is exact; rounding the sum
twice differs from rounding it once in about one case of 2^29. For float64 the product is rounded, so the
last bit may differ. The half formats are computed in float32 and rounded once an operation, as torch does;
their numbers are kept in float32 arrays (the last few entries of a tensor, which fill no vector register,
torch's ``add`` rounds once more). torch's square root of float32 comes from a vector library and
differs from the correctly rounded one by one unit in the last place in about 1 % of cases.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Exact = NDArray[np.float64]

Number = float | np.floating[Any]

EPSILON = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
"""Largest relative error of rounding to each format."""


class Arithmetic:
    """Elementwise operations in one floating-point format.

    Attributes:
        dtype: "float64", "float32", "bfloat16" or "float16".
        kind: numpy's type in which the numbers are kept.
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.kind: type[np.floating[Any]] = np.float64 if dtype == "float64" else np.float32

    def take(self, values: Any) -> Array:
        """A copy of ``values`` as an array of this arithmetic, at least one-dimensional."""
        return np.array(values, dtype=self.kind, ndmin=1)

    def rounded(self, values: Array) -> Array:
        """``values`` (float32 or float64) on the grid of the format."""
        if self.dtype == "bfloat16":
            bits = values.view(np.uint32)
            odd = (bits >> np.uint32(16)) & np.uint32(1)
            kept = (bits + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)
            return np.where(np.isnan(values), values, kept.view(np.float32))
        if self.dtype == "float16":
            return values.astype(np.float16).astype(np.float32)
        return values

    def multiply_add(self, a: Array, b: Array | Number, c: Array | Number) -> Array:
        """The product a * b plus c, with one rounding."""
        if self.kind is np.float64:
            return np.asarray(a * b + c)
        product = np.multiply(a, self._number(b), dtype=np.float64)
        product += c
        return self.rounded(product.astype(np.float32))

    def add(self, a: Array | Number, b: Array, alpha: float = 1.0) -> Array:
        """``a.add(b, alpha=alpha)``; torch rounds ``alpha`` to the format first."""
        factor = self.rounded(np.array([alpha], dtype=self.kind))
        return self.multiply_add(b, self.kind(factor[0]), a)

    def shift(self, a: Array, number: float) -> Array:
        """``a.add(number)``."""
        return self.rounded(np.asarray(a + self._number(number)))

    def scale(self, a: Array, factor: float) -> Array:
        """``a.mul(factor)``."""
        return self.rounded(np.asarray(a * self._number(factor)))

    def times(self, a: Array, b: Array) -> Array:
        """``a.mul(b)``."""
        return self.rounded(np.asarray(a * b))

    def divide(self, a: Array, b: Array | Number) -> Array:
        """``a.div(b)``."""
        return self.rounded(np.asarray(a / self._number(b)))

    def over(self, number: float, a: Array) -> Array:
        """``number / a``, which torch computes as ``a.reciprocal() * number``."""
        return self.scale(self.rounded(np.asarray(self.kind(1.0) / a)), number)

    def sqrt(self, a: Array) -> Array:
        """``a.sqrt()``."""
        return self.rounded(np.asarray(np.sqrt(a)))

    def lerp(self, a: Array, b: Array | Number, weight: float) -> Array:
        """``a.lerp(b, weight)``: from a towards b, computed from the nearer end."""
        w = self.kind(weight)
        if abs(weight) < 0.5:
            return self.multiply_add(np.asarray(b - a), w, a)
        return self.multiply_add(np.asarray(b - a), self.kind(w - self.kind(1.0)), b)

    def add_product(self, a: Array, b: Array, c: Array, value: float) -> Array:
        """``a.addcmul(b, c, value=value)``: a + (value * b) * c."""
        return self.multiply_add(np.asarray(self.kind(value) * b), c, a)

    def add_quotient(self, a: Array, b: Array, c: Array, value: float = 1.0) -> Array:
        """``a.addcdiv(b, c, value=value)``: a + (value * b) / c."""
        return self.rounded(np.asarray(a + (self.kind(value) * b) / c))

    def _number(self, number: Array | Number) -> Array | np.floating[Any]:
        """A Python number in the format in which torch uses it as an operand."""
        return number if isinstance(number, np.ndarray) else self.kind(number)
