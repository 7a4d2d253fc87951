"""Activations that PyTorch does not have: with an exact derivative, or with a declared surrogate.

A surrogate is a derivative that is not the forward function's own. It is useful
where the true one is zero (a ReLU that is off), and a step along it lowers the
loss to first order as long as its inner product with the true gradient is
positive. Each class says which derivative its backward uses.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Abs(nn.Module):
    """|z|, elementwise, any shape. Exact derivative sign(z); no dead zone, and no attenuation at any sign."""

    def forward(self, input: Tensor) -> Tensor:
        """|z|, of the shape of ``input``."""
        return input.abs()


class NecroReLU(nn.Module):
    """ReLU forward, leaky ReLU backward: a unit that is off still learns.

    f(z) = max(z, 0); the backward pass uses 1 for z > 0 and ``slope`` otherwise,
    for finite z. A layer of which *every* unit is off is not brought back by it:
    its outputs stay 0, so the next layer learns nothing from them.

    Args:
        slope: Derivative that is used where z <= 0, between 0 and 1.

    Raises:
        ValueError: If the slope lies outside.
    """

    def __init__(self, slope: float = 0.1) -> None:
        super().__init__()
        if not 0 <= slope <= 1:
            raise ValueError(f"slope must lie between 0 and 1, not {slope}")
        self.slope = slope

    def forward(self, input: Tensor) -> Tensor:
        """max(z, 0), of the shape of ``input``."""
        leaky = nn.functional.leaky_relu(input, self.slope)
        # The bracket is exactly 0: the value is the ReLU's, the graph is the leaky ReLU's.
        return input.detach().relu() + (leaky - leaky.detach())

    def extra_repr(self) -> str:
        """The slope."""
        return f"slope={self.slope}"


class _Surrogate(torch.autograd.Function):
    """ReLU forward, B-SiLU's derivative backward."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(z)
        ctx.alpha = alpha
        return z.relu()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        gate = torch.sigmoid(z)
        return gradient * (gate + (z + ctx.alpha) * gate * (1 - gate)), None


class SugarReLU(nn.Module):
    """ReLU forward, the derivative of B-SiLU backward (SUGAR, Horuz et al. 2025, arXiv 2505.22074).

    B-SiLU(z) = (z + alpha) sigmoid(z) - alpha / 2, whose derivative is
    sigmoid(z) + (z + alpha) sigmoid(z) (1 - sigmoid(z)). Not differentiable twice.

    Args:
        alpha: Shift of the surrogate; the paper's is 1.67.
    """

    def __init__(self, alpha: float = 1.67) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, input: Tensor) -> Tensor:
        """max(z, 0), of the shape of ``input``."""
        return cast("Tensor", _Surrogate.apply(input, self.alpha))  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """The shift."""
        return f"alpha={self.alpha}"


class Mixed(nn.Module):
    """Several activations in one layer, each for its own group of neighbouring units.

    Args:
        activations: One module for each group; with G of them, unit u of U belongs to group
            floor(u G / U).
        dim: The unit axis; None for axis 1 of images and volumes (4 or 5 axes) and the last of all else.

    Raises:
        ValueError: If there is no activation.
    """

    def __init__(self, activations: Sequence[nn.Module], dim: int | None = None) -> None:
        super().__init__()
        if not activations:
            raise ValueError("a mixed layer needs at least one activation")
        self.groups = nn.ModuleList(activations)
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Each group through its own activation, of the shape of ``input``."""
        dim = self.dim if self.dim is not None else 1 if input.ndim in {4, 5} else -1
        units, number = input.shape[dim], len(self.groups)
        ends = [-(-units * g // number) for g in range(number + 1)]
        sizes = [b - a for a, b in pairwise(ends)]
        parts = torch.split(input, sizes, dim=dim)
        return torch.cat([f(part) for f, part in zip(self.groups, parts, strict=True)], dim=dim)

    def extra_repr(self) -> str:
        """The unit axis."""
        return f"dim={self.dim}"
