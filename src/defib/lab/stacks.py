"""Many small networks at once: every parameter has a first axis that counts the networks.

Optimisers that work element by element (SGD, Adam ...) step each network of a stack as
if it were alone, as long as the loss is the sum over the stack.

Letters: ``R`` networks, ``N`` samples, ``D`` inputs, ``H`` units of a layer, ``C`` classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from defib.lab.nets import Activation, fill


@dataclass(frozen=True, kw_only=True)
class Stack:
    """R chains of linear layers with an activation between them.

    Attributes:
        weights: Of each layer, shape (R, H, D).
        biases: Of each layer, shape (R, 1, H).
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def parameters(self) -> list[Tensor]:
        """Weights and biases, layer by layer."""
        return [p for pair in zip(self.weights, self.biases, strict=True) for p in pair]

    def sums(self, x: Tensor, activation: Activation) -> list[Tensor]:
        """The pre-activations of every layer for inputs ``x``, shape (R, N, H) each; see :func:`sums_of`."""
        return sums_of(self.weights, self.biases, x, activation)


def sums_of(
    weights: Iterable[Tensor], biases: Iterable[Tensor], x: Tensor, activation: Activation
) -> list[Tensor]:
    """The pre-activations W h + b of every layer of R chains; the last are the outputs.

    Args:
        weights: Of each layer, shape (R, H, D).
        biases: Of each layer, shape (R, 1, H).
        x: Shape (N, D), or (R, N, D) for inputs of their own.
        activation: Between the layers.

    Returns:
        One tensor a layer, shape (R, N, H).
    """
    sums: list[Tensor] = []
    for weight, bias in zip(weights, biases, strict=True):
        h = activation(sums[-1]) if sums else x.expand(len(weight), *x.shape[-2:])
        sums.append(torch.baddbmm(bias, h, weight.transpose(1, 2)))
    return sums


def filled(
    count: int,
    fan_in: int,
    fan_out: int,
    generator: torch.Generator,
    *,
    init: str,
    gain: float,
    dtype: torch.dtype,
) -> Tensor:
    """Weights of one layer of R networks, drawn one network after the other, shape (R, H, D)."""
    weight = torch.empty(count, fan_out, fan_in, dtype=dtype)
    for one in weight:
        fill(one, init, generator, gain=gain)
    return weight


def draw(
    count: int,
    sizes: Sequence[int],
    generator: torch.Generator,
    *,
    init: str = "he",
    gain: float = 1.0,
    bias: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> Stack:
    """A stack with fresh parameters that require gradients.

    Args:
        count: Networks.
        sizes: Inputs, units of each hidden layer, outputs.
        generator: Where the parameters come from.
        init: As in :func:`defib.lab.nets.fill`.
        gain: Likewise.
        bias: Deviation of the normal biases.
        dtype: Of the parameters.

    Returns:
        The stack.
    """
    weights, biases = [], []
    for fan_in, fan_out in pairwise(sizes):
        weight = filled(count, fan_in, fan_out, generator, init=init, gain=gain, dtype=dtype)
        weights.append(weight.requires_grad_())
        drawn = torch.randn(count, 1, fan_out, generator=generator, dtype=dtype) * bias
        biases.append(drawn.requires_grad_())
    return Stack(weights=tuple(weights), biases=tuple(biases))


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """The mean loss of each network.

    Args:
        outputs: Shape (R, N, C).
        labels: Shape (N,), or (R, N) for labels of their own.

    Returns:
        Shape (R,).
    """
    labels = labels.expand(outputs.shape[:2])
    return torch.nn.functional.cross_entropy(outputs.transpose(1, 2), labels, reduction="none").mean(1)


def dead(sums: Tensor) -> Tensor:
    """Which units are negative or 0 for every sample: of (R, N, H) makes (R, H), boolean."""
    return (sums <= 0).all(1)


def fit(
    stack: Stack,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    labels: Tensor,
    order: Iterable[Tensor],
    activation: Activation,
    *,
    penalty: float = 0.0,
) -> Tensor:
    """Trains every network on the same batches with cross-entropy.

    Args:
        stack: Trained in place.
        optimiser: Of its parameters, or of some of them.
        x: Inputs, shape (N, D).
        labels: Shape (N,).
        order: Batches of indices.
        activation: Between the layers.
        penalty: Weight of the sum over hidden units of their mean absolute output (L1).

    Returns:
        The loss of each network on each batch before its step, without the penalty; shape (steps, R).
    """
    losses = []
    for chosen in order:
        sums = stack.sums(x[chosen], activation)
        loss = cross_entropy(sums[-1], labels[chosen])
        losses.append(loss.detach())
        whole = loss.sum()
        if penalty:
            whole = whole + penalty * sum(activation(s).abs().mean(1).sum() for s in sums[:-1])
        optimiser.zero_grad()
        torch.autograd.backward(whole)
        optimiser.step()
    return torch.stack(losses)
