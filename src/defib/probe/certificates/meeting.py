"""Operations in which two numbers that both depend on the input meet: bounded by their ends alone."""

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from defib.probe.certificates.rounding import U64, gamma, outward, product_error, tiny_of
from defib.probe.certificates.steps import Known, Step


class Multiplied(Step):
    """a b, elementwise; a square where both are the same node."""

    def __init__(self, parents: tuple[fx.Node, ...], dtype: torch.dtype) -> None:
        self.parents, self._dtype = parents, dtype

    def forward(self, known: Sequence[Known]) -> Known:
        a, b = known[0], known[-1]
        corners = torch.stack([x * y for x in (a.low, a.high) for y in (b.low, b.high)])
        corners = torch.where(torch.isnan(corners), 0.0, corners)  # 0 times infinity: the factor is 0
        low, high = corners.amin(0), corners.amax(0)
        if len(set(self.parents)) == 1:
            low = torch.where((a.low < 0) & (a.high > 0), 0.0, torch.minimum(a.low**2, a.high**2))
        return _rounded(low, high, 2, self._dtype)


class Divided(Step):
    """a / b, elementwise; unbounded where b can be 0."""

    def __init__(self, parents: tuple[fx.Node, ...], numerator: Tensor | None, dtype: torch.dtype) -> None:
        self.parents, self._numerator, self._dtype = parents, numerator, dtype

    def forward(self, known: Sequence[Known]) -> Known:
        b = known[-1]
        a = known[0] if self._numerator is None else Known.within(self._numerator, self._numerator)
        corners = torch.stack([x / y for x in (a.low, a.high) for y in (b.low, b.high)])
        lost = ((b.low <= 0) & (b.high >= 0)) | torch.isnan(corners).any(0)
        low = torch.where(lost, -torch.inf, corners.amin(0))
        return _rounded(low, torch.where(lost, torch.inf, corners.amax(0)), 2, self._dtype)


class MatrixProduct(Step):
    """A B with both factors depending on the input, by midpoints and radii (Rump 1999)."""

    def __init__(self, parents: tuple[fx.Node, ...], dtype: torch.dtype) -> None:
        self.parents, self._dtype = parents, dtype

    def forward(self, known: Sequence[Known]) -> Known:
        a, b = known
        middle = [(k.low + k.high) / 2 for k in known]
        radius = [(k.high - k.low) / 2 * (1 + 4 * U64) for k in known]
        centre = middle[0] @ middle[1]
        away = middle[0].abs() @ radius[1] + radius[0] @ middle[1].abs() + radius[0] @ radius[1]
        size = a.size @ b.size
        terms = a.low.shape[-1]
        error = product_error(terms, self._dtype) * size + terms * tiny_of(self._dtype)
        low, high = outward(centre - away, centre + away, error + gamma(4 * terms + 16, U64) * size)
        return Known.within(low, high, error)


class Mixed(Step):
    """Weighted means of the rows of a matrix (attention): between the smallest and the largest row.

    Args:
        parent: The node of values, shape (..., S, D).
        shape: Of the result, (..., T, D).
        with_zero: A row can have no weight at all (everything masked).
        dtype: The model's format.
    """

    def __init__(self, parent: fx.Node, shape: Sequence[int], with_zero: bool, dtype: torch.dtype) -> None:
        self.parents, self._shape, self._with_zero, self._dtype = (parent,), tuple(shape), with_zero, dtype

    def forward(self, known: Sequence[Known]) -> Known:
        values = known[0]
        low, high = values.low.amin(-2, keepdim=True), values.high.amax(-2, keepdim=True)
        if self._with_zero:
            low, high = low.clamp(max=0.0), high.clamp(min=0.0)
        size = values.size.amax(-2, keepdim=True).expand(self._shape)
        error = product_error(2 * values.low.shape[-2] + 32, self._dtype) * size
        ends = outward(low.expand(self._shape), high.expand(self._shape), error)
        return Known.within(*ends, error)


class Chosen(Step):
    """One of several values, by a condition that is not followed: anywhere between all of them.

    Args:
        parents: The values that depend on the input.
        others: The values that do not.
        shape: Of the result.
    """

    def __init__(self, parents: tuple[fx.Node, ...], others: Sequence[Tensor], shape: Sequence[int]) -> None:
        self.parents, self._others, self._shape = parents, tuple(others), tuple(shape)

    def forward(self, known: Sequence[Known]) -> Known:
        lows = [k.low.expand(self._shape) for k in known] + [o.expand(self._shape) for o in self._others]
        highs = [k.high.expand(self._shape) for k in known] + [o.expand(self._shape) for o in self._others]
        return Known.within(torch.stack(lows).amin(0), torch.stack(highs).amax(0))


class Power(Step):
    """x^p with a fixed exponent."""

    def __init__(self, parent: fx.Node, exponent: float, dtype: torch.dtype) -> None:
        self.parents, self._exponent, self._dtype = (parent,), exponent, dtype

    def forward(self, known: Sequence[Known]) -> Known:
        x, p = known[0], self._exponent
        whole = float(p).is_integer() and p > 0
        if whole and p % 2 == 0:
            inside = (x.low < 0) & (x.high > 0)
            near = torch.where(inside, 0.0, torch.minimum(x.low.abs(), x.high.abs()))
            return _rounded(near**p, x.size**p, int(p) + 16, self._dtype)
        if whole:
            return _rounded(x.low**p, x.high**p, int(p) + 16, self._dtype)
        ends = torch.stack([x.low.clamp(min=0) ** p, x.high.clamp(min=0) ** p])
        # Left of 0 there is no result (NaN), and at 0 a negative power is infinite.
        lost = (x.low < 0) | torch.isnan(ends).any(0)
        low, high = torch.where(lost, -torch.inf, ends.amin(0)), torch.where(lost, torch.inf, ends.amax(0))
        return _rounded(low, high, 32, self._dtype)


def _rounded(low: Tensor, high: Tensor, roundings: int, dtype: torch.dtype) -> Known:
    """Ends with the model's and our rounding; the sign is kept."""
    size = torch.nan_to_num(torch.maximum(low.abs(), high.abs()), nan=torch.inf, posinf=torch.inf)
    error = product_error(roundings, dtype) * size + tiny_of(dtype)
    wide = outward(low, high, error + 64 * U64 * size)
    low = torch.where(low >= 0, wide[0].clamp(min=0.0), wide[0])
    return Known.within(low, torch.where(high <= 0, wide[1].clamp(max=0.0), wide[1]), error)
