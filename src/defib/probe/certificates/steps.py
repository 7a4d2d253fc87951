"""What a bound needs of one operation: an enclosure forward, linear bounds backward.

Letters: ``K`` rows (linear forms that are bounded at once), ``n`` entries of a node (its shape is kept:
rows have shape (K, *shape)), E rounding of the model's own arithmetic, S rounding of ours.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from defib.probe.certificates.rounding import U64, gamma


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """What is known of one node's numbers, for every input of the domain.

    The ends hold for the exact function and for what the model computes in its own format.

    Attributes:
        low: Lower ends, shape of the node, float64.
        high: Upper ends.
        error: How far the model's own rounding in this operation alone can move the result (E).
        slack: How far ours can, where rows pass through it (S): for one entry, per unit of its coefficient,
            the inner products with the operation's constants included.
    """

    low: Tensor
    high: Tensor
    error: Tensor
    slack: Tensor

    @property
    def size(self) -> Tensor:
        """Largest absolute value of each entry."""
        return torch.maximum(self.low.abs(), self.high.abs())

    @classmethod
    def within(cls, low: Tensor, high: Tensor, error: Tensor | float = 0.0) -> "Known":
        """Ends as they are, with the rounding of an inner product with them charged."""
        zero = torch.zeros_like(low)
        size = torch.maximum(low.abs(), high.abs())
        return cls(low=low, high=high, error=zero + error, slack=gamma(4 * low.numel() + 64, U64) * size)


@dataclass(frozen=True, kw_only=True, eq=False)
class Passed:
    """rows . y <= sum of rows_i . x_i + constant, up to the charges for rounding.

    Attributes:
        rows: One tensor of shape (K, *shape) for each parent; none where the bound ends here.
        constant: Shape (K,).
        size: Absolute values that it was added up from, shape (K,), where the node's own slack does not
            cover its rounding; 0 elsewhere.
    """

    rows: tuple[Tensor, ...]
    constant: Tensor
    size: Tensor | float = 0.0


class Step(ABC):
    """One operation of the graph.

    Attributes:
        parents: Nodes with numbers that depend on the input, in the order that ``forward`` takes.
        bounding: Its result is bounded whatever enters (a normalisation, a vocabulary).
    """

    parents: tuple[fx.Node, ...]
    bounding: bool = False

    @abstractmethod
    def forward(self, known: Sequence[Known]) -> Known:
        """The enclosure of the result, given those of the parents."""

    def backward(self, rows: Tensor, known: Sequence[Known], own: Known) -> Passed:
        """Linear forms of the result bounded by linear forms of the parents; here: by constants.

        Args:
            rows: Shape (K, *shape of the result).
            known: Of the parents.
            own: Of the result.

        Returns:
            Rows for each parent and constants.
        """
        del known
        return cut(rows, own)


class Unknown(Step):
    """An operation without bounds: its result can be anything.

    Attributes:
        name: The operation.
    """

    def __init__(self, name: str, shape: Sequence[int]) -> None:
        self.parents = ()
        self.name = name
        self._shape = tuple(shape)

    def forward(self, known: Sequence[Known]) -> Known:
        del known
        low = torch.full(self._shape, -torch.inf, dtype=torch.float64)
        return Known.within(low, -low)


def total(rows: Tensor, values: Tensor) -> Tensor:
    """Inner products of rows with values, shape (K,); 0 times infinity is NaN here."""
    return rows.flatten(1) @ values.reshape(-1)


def cut(rows: Tensor, own: Known) -> Passed:
    """Linear forms bounded by the ends alone: positive coefficients take the upper end."""
    if torch.isfinite(own.low).all() and torch.isfinite(own.high).all():
        middle, half = (own.low + own.high) / 2, (own.high - own.low) / 2
        return Passed(rows=(), constant=total(rows, middle) + total(rows.abs(), half))
    ends = torch.where(rows > 0, rows * own.high, torch.where(rows < 0, rows * own.low, 0.0)).flatten(1)
    return Passed(rows=(), constant=ends.sum(1))
