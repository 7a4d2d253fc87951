"""A :mod:`stack <defib.lab.stacks>` of networks as one module, whose activation may learn as well.

Letters: ``R`` members, ``N`` samples, ``D`` inputs, ``H`` units, ``C`` outputs, ``B`` samples of a batch.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from defib.lab.nets import Activation
from defib.lab.stacks import cross_entropy, filled, sums_of


class Crowd(nn.Module):
    """R chains of linear layers of the same sizes, each with its own weights.

    Args:
        members: R.
        sizes: Inputs, units of each hidden layer, outputs.
        activation: After every layer but the last.
        generator: Where the weights come from.
        init: As in ``nets.fill``; biases are 0, with "default" those of torch.nn.Linear.
        gain: Factor of the weights' deviation.
        dtype: Of the parameters.
    """

    def __init__(
        self,
        members: int,
        sizes: Sequence[int],
        activation: Activation,
        generator: torch.Generator,
        *,
        init: str = "he",
        gain: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            weight = filled(members, fan_in, fan_out, generator, init=init, gain=gain, dtype=dtype)
            bias = torch.zeros(members, 1, fan_out, dtype=dtype)
            if init == "default":
                bound = 1 / math.sqrt(fan_in)
                bias.uniform_(-bound, bound, generator=generator)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(bias))

    def states(self, x: Tensor) -> list[Tensor]:
        """Pre-activations of every layer for inputs ``x``, shape (R, N, H) each; see :func:`sums_of`."""
        return sums_of(self.weights, self.biases, x, self.activation)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs, shape (R, N, C)."""
        return self.states(x)[-1]

    def accuracies(self, x: Tensor, y: Tensor) -> Tensor:
        """Each member's share of samples whose largest output is their label's, shape (R,)."""
        with torch.no_grad():
            right: Tensor = self(x).argmax(-1) == y
            return right.double().mean(-1)


class MemberPReLU(nn.Module):
    """PReLU with a slope for each member, which it learns.

    Args:
        members: R.
        slope: First slope.
    """

    def __init__(self, members: int, slope: float = 0.25) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((members, 1, 1), slope))

    def forward(self, x: Tensor) -> Tensor:
        """max(x, 0) + slope min(x, 0), shape (R, N, H)."""
        return torch.where(x > 0, x, self.slope * x)


def train_crowd(
    crowd: Crowd,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    steps: Iterable[int],
    size: int,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> None:
    """Trains every member on batches of its own, drawn with replacement.

    Args:
        crowd: Trained in place.
        optimiser: Of its parameters.
        x: Inputs, shape (N, D).
        y: Labels, shape (N,).
        generator: Of the batches.
        steps: One batch each.
        size: B.
        loss: Each member's loss, shape (R,), of outputs and labels.
    """
    members = len(crowd.weights[0])
    for _step in steps:
        chosen = torch.randint(len(x), (members, size), generator=generator)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss(crowd(x[chosen]), y[chosen]).sum())
        optimiser.step()
