"""A network as a function of one flat vector of its parameters, for curvature and for many nets at once.

Letters: ``P`` parameters, ``R`` networks, ``N`` samples, ``D`` inputs, ``C`` outputs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.func import grad, jacrev

from defib.lab.nets import Activation


@dataclass(frozen=True, kw_only=True)
class FlatNet:
    """A chain of linear layers with an activation between them; it holds no parameters itself.

    Attributes:
        sizes: Inputs, units of each hidden layer, outputs.
        activation: After every layer but the last.
    """

    sizes: Sequence[int]
    activation: Activation

    @property
    def count(self) -> int:
        """P: weights, then biases, layer by layer."""
        return sum(fan_out * (fan_in + 1) for fan_in, fan_out in pairwise(self.sizes))

    def layers(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each layer's weights and biases.

        Args:
            theta: Shape (P,).

        Returns:
            Views of shapes (fan_out, fan_in) and (fan_out,).
        """
        found: list[tuple[Tensor, Tensor]] = []
        at = 0
        for fan_in, fan_out in pairwise(self.sizes):
            weight = theta[at : at + fan_in * fan_out].reshape(fan_out, fan_in)
            at += fan_in * fan_out
            found.append((weight, theta[at : at + fan_out]))
            at += fan_out
        return found

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Outputs.

        Args:
            theta: Shape (P,).
            x: Shape (..., D).

        Returns:
            Shape (..., C).
        """
        h = x
        for number, (weight, bias) in enumerate(self.layers(theta)):
            h = (self.activation(h) if number else h) @ weight.T + bias
        return h

    def start(
        self, members: int, generator: torch.Generator, *, gain: float = 1.0, bias: float = 0.0
    ) -> Tensor:
        """Draws networks, in float64.

        Args:
            members: R.
            generator: Where chance comes from.
            gain: Deviation of a weight, times the root of its fan-in.
            bias: Deviation of a bias.

        Returns:
            Shape (R, P).
        """
        scales = [
            torch.full((size,), deviation, dtype=torch.float64)
            for fan_in, fan_out in pairwise(self.sizes)
            for size, deviation in ((fan_in * fan_out, gain / math.sqrt(fan_in)), (fan_out, bias))
        ]
        draw = torch.randn(members, self.count, generator=generator, dtype=torch.float64)
        return draw * torch.cat(scales)


def hessian(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The matrix of second derivatives of a loss with respect to its first argument, by two backward passes.

    Not ``torch.func.hessian``: its forward mode loads a compiler that warns that it is deprecated.

    Args:
        loss: From parameters, shape (P,), and whatever else it needs, to a number.

    Returns:
        A function of the same arguments, to shape (P, P); ``torch.func.vmap`` takes many at once.
    """
    found: Callable[..., Tensor] = jacrev(grad(loss))
    return found
