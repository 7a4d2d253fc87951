"""Operations that are linear in what depends on the input: sums and copies, differences, products.

Forward, a product with weights w takes [l, u] to w+ l + w- u and w+ u + w- l. Backward, rows go through
the transpose. Rounding: gamma_n (|w| |x| + |b|) for the model's own arithmetic and for ours.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from defib.probe.certificates.rounding import U64, gamma, outward, product_error, tiny_of
from defib.probe.certificates.steps import Known, Passed, Step, total

Function = Callable[..., Any]


class Copying(Step):
    """A linear operation whose coefficients are not negative: copies, sums, means, paddings.

    Args:
        function: The operation as a function of the parents alone, float64.
        parents: Nodes that depend on the input.
        terms: Numbers that are added up for one result; 1 for a copy, which is exact.
        dtype: The model's format.
    """

    def __init__(
        self, function: Function, parents: tuple[fx.Node, ...], terms: int, dtype: torch.dtype
    ) -> None:
        self.parents = parents
        self.local = terms == 1
        self.function, self._terms, self._dtype = function, terms, dtype

    def forward(self, known: Sequence[Known]) -> Known:
        low = self.function(*(k.low for k in known))
        high = self.function(*(k.high for k in known))
        spread = 1 + low.numel() // min(k.low.numel() for k in known)  # entries that one entry is copied to
        room = gamma(4 * (self._terms + spread + low.numel()) + 64, U64)
        if self._terms == 1:
            size = torch.maximum(low.abs(), high.abs())
            return Known(low=low, high=high, error=torch.zeros_like(low), slack=room * size)
        fixed = self.function(*(torch.zeros_like(k.low) for k in known))
        size = self.function(*(k.size for k in known)).abs() + 2 * fixed.abs()
        size = torch.nan_to_num(size, nan=torch.inf, posinf=torch.inf)
        error = product_error(self._terms, self._dtype) * size + self._terms * tiny_of(self._dtype)
        slack = room * size + 1e-300
        low, high = outward(low, high, error + slack)
        return _signed(low, high, self._same(known, 1), self._same(known, -1), error, slack)

    def _same(self, known: Sequence[Known], sign: int) -> Tensor:
        """Where every term of a sum has that sign (or is 0), so that rounding cannot change the sum's."""
        wrong = [(sign * (k.low if sign > 0 else k.high) < 0).double() for k in known]
        fixed = self.function(*(torch.zeros_like(k.low) for k in known))
        found = self.function(*wrong) - fixed
        same: Tensor = (found == 0) & (sign * fixed >= 0)
        return same

    def backward(self, rows: Tensor, known: Sequence[Known], own: Known) -> Passed:
        del own
        zeros = [torch.zeros_like(k.low) for k in known]
        fixed = self.function(*zeros)
        return passed(rows, transposed(self.function, zeros, rows), fixed)


class Difference(Step):
    """s a + t b with numbers s and t, shapes stretched: subtraction, negation, sums.

    Args:
        function: The operation as a function of the parents alone, float64.
        parents: Nodes that depend on the input: one or two.
        signs: Sign of the coefficient of each parent.
        dtype: The model's format.
        plain: All coefficients are 1 or -1, so that the result is rounded once.
    """

    def __init__(
        self, function: Function, parents: tuple[fx.Node, ...], signs: Sequence[float], dtype: torch.dtype,
        plain: bool,
    ) -> None:  # fmt: skip
        self.parents, self.function, self._signs = parents, function, tuple(signs)
        self._dtype, self._plain = dtype, plain

    def forward(self, known: Sequence[Known]) -> Known:
        both = list(zip(known, self._signs, strict=True))
        low = self.function(*(k.low if s > 0 else k.high for k, s in both))
        high = self.function(*(k.high if s > 0 else k.low for k, s in both))
        size = self.function(*(k.size if s > 0 else -k.size for k, s in both)).abs()
        size = size + self.function(*(torch.zeros_like(k.low) for k in known)).abs() * 2
        size = torch.nan_to_num(torch.maximum(size, torch.maximum(low.abs(), high.abs())), nan=torch.inf)
        spread = 1 + low.numel() // min(k.low.numel() for k in known)
        error = product_error(2, self._dtype) * size + tiny_of(self._dtype)
        slack = gamma(4 * (spread + low.numel()) + 64, U64) * size
        # Rounding a single sum does not change its sign.
        plain = torch.full_like(low, float(self._plain)) > 0
        rising, falling = plain & (low >= 0), plain & (high <= 0)
        low, high = outward(low, high, error + slack)
        return _signed(low, high, rising, falling, error, slack)

    def backward(self, rows: Tensor, known: Sequence[Known], own: Known) -> Passed:
        del own
        zeros = [torch.zeros_like(k.low) for k in known]
        return passed(rows, transposed(self.function, zeros, rows), self.function(*zeros))


class Product(Step):
    """A product with fixed weights, and a bias: Linear, convolution, elementwise factor, BatchNorm.

    Args:
        function: ``function(x, w)``, linear in both, float64.
        parent: The node x.
        weight: The fixed factor w.
        bias: What is added, of a shape that can be stretched to the result's; None for nothing.
        terms: Numbers that are added up for one result.
        spread: Numbers that are added up for one entry of the transpose.
        dtype: The model's format.
        transpose: Rows through the transpose; None to let autograd find it.
        local: Elementwise: each result comes from one entry of x.
        room: What else the model's arithmetic passes through and rounds (a mean that is subtracted
            first), shape as for the bias; its sign then can change where all terms have the same.
    """

    def __init__(
        self,
        function: Function,
        parent: fx.Node,
        weight: Tensor,
        bias: Tensor | None,
        *,
        terms: int,
        spread: int,
        dtype: torch.dtype,
        transpose: Callable[[Tensor, Tensor], Tensor] | None = None,
        local: bool = False,
        room: Tensor | None = None,
    ) -> None:
        self.parents = (parent,)
        self.function, self.weight, self._bias = function, weight, bias
        self._terms, self._spread, self._dtype = terms, spread, dtype
        self._transpose, self._room, self.local = transpose, room, local

    def forward(self, known: Sequence[Known]) -> Known:
        x = known[0]
        plus, minus, whole = self.weight.clamp(min=0), self.weight.clamp(max=0), self.weight.abs()
        low, high = self._ends(x, plus, minus)
        bias = self._bias if self._bias is not None else torch.zeros((), dtype=torch.float64)
        finite = torch.where(torch.isfinite(x.size), x.size, 0.0)
        size = self.function(finite, whole) + (bias.abs() if self._room is None else self._room)
        if (wide := ~torch.isfinite(x.size)).any():
            size = torch.where(self.function(wide.double(), (whole > 0).double()) > 0, torch.inf, size)
        error = product_error(self._terms, self._dtype) * size + self._terms * tiny_of(self._dtype)
        slack = gamma(4 * (self._terms + self._spread + low.numel()) + 64, U64) * size + 1e-300
        signs = self._sign_of_all(x, plus, minus, bias)
        low, high = outward(low + bias, high + bias, error + slack)
        return _signed(low, high, *signs, error, slack)

    def _ends(self, x: Known, plus: Tensor, minus: Tensor) -> tuple[Tensor, Tensor]:
        """w+ l + w- u and w+ u + w- l, infinite only where an infinite end has a weight."""
        f = self.function
        ends = []
        for first, second, far in ((x.low, x.high, -torch.inf), (x.high, x.low, torch.inf)):
            a, b = (torch.where(torch.isfinite(e), e, 0.0) for e in (first, second))
            end = f(a, plus) + f(b, minus)
            lost = torch.isinf(first), torch.isinf(second)
            if lost[0].any() or lost[1].any():
                reached = f(lost[0].double(), (plus > 0).double()) + f(lost[1].double(), (minus < 0).double())
                end = torch.where(reached > 0, far, end)
            ends.append(end)
        return ends[0], ends[1]

    def _sign_of_all(self, x: Known, plus: Tensor, minus: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Where every term is >= 0, and where every term is <= 0: sums in any order keep that sign."""
        f, up, down = self.function, (plus > 0).double(), (minus < 0).double()
        below, above = (x.low < 0).double(), (x.high > 0).double()
        negative = f(below, up) + f(above, down)
        positive = f(above, up) + f(below, down)
        sure = self._room is None
        return (negative == 0) & (bias >= 0) & sure, (positive == 0) & (bias <= 0) & sure

    def backward(self, rows: Tensor, known: Sequence[Known], own: Known) -> Passed:
        x = known[0].low
        if self._transpose is not None:
            through: tuple[Tensor, ...] = (self._transpose(rows, x),)
        else:
            through = transposed(lambda v: self.function(v, self.weight), [torch.zeros_like(x)], rows)
        fixed = torch.zeros_like(own.low) if self._bias is None else self._bias.expand_as(own.low)
        return passed(rows, through, fixed)


def transposed(function: Function, zeros: Sequence[Tensor], rows: Tensor) -> tuple[Tensor, ...]:
    """Rows through the transpose of a function's linear part, one tensor for each argument.

    Args:
        function: Linear but for a constant.
        zeros: Arguments of the right shapes.
        rows: Shape (K, *shape of the result).

    Returns:
        Shapes (K, *shape of the argument).
    """
    back = torch.func.vjp(function, *zeros)[1]
    found: tuple[Tensor, ...] = torch.func.vmap(back)(rows)
    return found


def passed(rows: Tensor, through: tuple[Tensor, ...], fixed: Tensor) -> Passed:
    """Rows that went through, and what they make of the operation's constant part."""
    constant = total(rows, fixed) if bool(fixed.any()) else torch.zeros(len(rows), dtype=torch.float64)
    return Passed(rows=through, constant=constant)


def _signed(
    low: Tensor, high: Tensor, not_negative: Tensor, not_positive: Tensor, error: Tensor, slack: Tensor
) -> Known:
    """Ends that rounding moved across 0 are put back where no rounding can cross it."""
    low = torch.where(not_negative, low.clamp(min=0.0), low)
    high = torch.where(not_positive, high.clamp(max=0.0), high)
    return Known(low=low, high=high, error=error, slack=slack)
