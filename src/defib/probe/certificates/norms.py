"""Operations whose results lie in a known set whatever enters: normalisations, softmax, vocabularies.

A vector that was centred and divided by its standard deviation has mean 0 and at most length sqrt(d). So
w . (gamma x + beta) is at most sqrt(d) |P(w gamma)| + w . beta, where P takes the mean away, and some
input attains it when the norm's epsilon is 0. Without centring (RMSNorm) P is left out.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, fx

from defib.probe.certificates.rounding import gamma, outward, product_error, unit_of
from defib.probe.certificates.steps import Known, Passed, Step, cut


class Normalised(Step):
    """LayerNorm, GroupNorm, InstanceNorm, RMSNorm: groups of entries on a sphere, then scaled and shifted.

    Args:
        parent: The node that is normalised.
        groups: Shape (G, d) that brings the entries of one group into one row (they lie side by side).
        scale: gamma, of the node's shape.
        shift: beta, of the node's shape.
        centred: The mean is taken away.
        dtype: The model's format.
    """

    bounding = True

    def __init__(
        self, parent: fx.Node, groups: tuple[int, int], scale: Tensor, shift: Tensor, centred: bool,
        dtype: torch.dtype,
    ) -> None:  # fmt: skip
        self.parents = (parent,)
        self._groups, self._scale, self._shift = groups, scale, shift
        self._centred, self._dtype = centred, dtype

    def forward(self, known: Sequence[Known]) -> Known:
        del known
        d = self._groups[1]
        reach = math.sqrt(d - 1 if self._centred else d) * (1 + 1e-15)
        width = self._scale.abs() * reach
        error = product_error(16, self._dtype) * (width + self._shift.abs())
        return Known.within(*outward(self._shift - width, self._shift + width, error), error)

    def backward(self, rows: Tensor, known: Sequence[Known], own: Known) -> Passed:
        del known
        plain = cut(rows, own)
        scaled = (rows * self._scale).reshape(len(rows), *self._groups)
        spread = scaled - scaled.mean(-1, keepdim=True) if self._centred else scaled
        d = self._groups[1]
        # Rounding in w - mean(w) is relative to w, not to the difference.
        lost = gamma(d + 8, unit_of(torch.float64)) * scaled.norm(dim=-1)
        sphere = math.sqrt(d) * (spread.norm(dim=-1) * (1 + gamma(d + 8, unit_of(torch.float64))) + lost)
        shift = (rows * self._shift).flatten(1)
        bound = sphere.sum(1) + shift.sum(1)
        size = sphere.sum(1) + shift.abs().sum(1)
        better = bound < plain.constant
        return Passed(rows=(), constant=torch.where(better, bound, plain.constant),
                      size=size)  # fmt: skip

    def mixed(self, live: Tensor) -> Tensor:
        """Groups of which any entry is set, shape as ``live``."""
        rows = live.reshape(self._groups)
        return rows.amax(-1, keepdim=True).expand_as(rows).reshape(live.shape)


class Softmaxed(Step):
    """Softmax along one dimension: not negative, and a sum of 1.

    Args:
        parent: The node.
        dim: The dimension.
        dtype: The model's format.
    """

    bounding = True

    def __init__(self, parent: fx.Node, dim: int, dtype: torch.dtype) -> None:
        self.parents, self.dim, self._dtype = (parent,), dim, dtype

    def forward(self, known: Sequence[Known]) -> Known:
        x = known[0]
        low, high = self._end(x.low, x.high), self._end(x.high, x.low)
        low = torch.nan_to_num(low, nan=0.0)
        high = torch.nan_to_num(high, nan=1.0)
        error = product_error(x.low.shape[self.dim] + 32, self._dtype) * high
        low, high = outward(low, high, error + gamma(x.low.shape[self.dim] + 64, unit_of(torch.float64)))
        return Known.within(low.clamp(min=0.0), high.clamp(max=1.0), error)

    def _end(self, own: Tensor, others: Tensor) -> Tensor:
        """exp(own) / (exp(own) + sum of exp(others) but itself), entry by entry."""
        ours, theirs = own.movedim(self.dim, -1), others.movedim(self.dim, -1)
        # exp(theirs - ours) may overflow to inf, and the quotient is then 0, as it should be.
        terms = (theirs.unsqueeze(-2) - ours.unsqueeze(-1)).exp()
        terms.diagonal(dim1=-2, dim2=-1).fill_(1.0)
        return (1.0 / terms.sum(-1)).movedim(-1, self.dim)

    def backward(self, rows: Tensor, known: Sequence[Known], own: Known) -> Passed:
        del known
        plain = cut(rows, own)
        dim = self.dim + rows.dim() if self.dim < 0 else self.dim + 1
        simplex = rows.amax(dim).flatten(1)
        bound, size = simplex.sum(1), simplex.abs().sum(1)
        return Passed(rows=(), constant=torch.minimum(bound, plain.constant),
                      size=size)  # fmt: skip


class Embedded(Step):
    """Rows of a table, chosen by whole numbers: the largest over all rows that can be chosen is exact.

    Args:
        parent: The node of indices.
        table: Shape (V, D).
    """

    bounding = True

    def __init__(self, parent: fx.Node, table: Tensor) -> None:
        self.parents, self._table = (parent,), table

    def forward(self, known: Sequence[Known]) -> Known:
        table = self._allowed(known[0])
        shape = (*known[0].low.shape, table.shape[1])
        return Known.within(table.amin(0).expand(shape).clone(), table.amax(0).expand(shape).clone())

    def backward(self, rows: Tensor, known: Sequence[Known], own: Known) -> Passed:
        del own
        table = self._allowed(known[0])
        spread = rows.reshape(-1, table.shape[1])
        best = torch.full((len(spread),), -torch.inf, dtype=rows.dtype)
        for start in range(0, len(table), 4096):
            some = table[start : start + 4096]
            best = torch.maximum(best, (spread @ some.T).amax(1))
        largest = spread.abs() @ table.abs().amax(0)
        return Passed(rows=(), constant=best.reshape(len(rows), -1).sum(1),
                      size=largest.reshape(len(rows), -1).sum(1))  # fmt: skip

    def _allowed(self, indices: Known) -> Tensor:
        """Rows between the smallest and the largest index of the domain."""
        last = len(self._table) - 1
        first = int(indices.low.min().clamp(0, last))
        return self._table[first : int(indices.high.max().clamp(0, last)) + 1]
