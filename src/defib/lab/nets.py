"""Networks and training loops that experiments share: plain torch, nothing of defib's.

Letters: ``N`` samples, ``D`` inputs, ``H`` units of a layer, ``L`` hidden layers.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from defib.core.errors import UsageError

Activation = Callable[[Tensor], Tensor]


class Lambda(nn.Module):
    """An activation function as a module, so that a net can be a plain sequence."""

    def __init__(self, function: Activation) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def relu(slope: float = 0.0) -> Activation:
    """max(x, slope * x): ReLU at slope 0 (derivative 0 at 0), leaky above."""
    return lambda x: torch.where(x > 0, x, slope * x)


class _Named(dict[str, Activation]):
    """Activations by name; a name that is none says which there are."""

    def __missing__(self, name: str) -> Activation:
        raise UsageError(f"no activation is called {name!r}; there are: {', '.join(self)}")


ACTIVATIONS: dict[str, Activation] = _Named(
    linear=lambda x: x,
    relu=torch.relu,
    leaky=relu(0.01),
    tanh=torch.tanh,
    sigmoid=torch.sigmoid,
    gelu=nn.functional.gelu,
    silu=nn.functional.silu,
    elu=nn.functional.elu,
    selu=nn.functional.selu,
    softplus=nn.functional.softplus,
    abs=torch.abs,
)


def fill(weight: Tensor, how: str, generator: torch.Generator, *, gain: float = 1.0) -> None:
    """Draws a weight matrix in place.

    Args:
        weight: Shape (fan_out, fan_in).
        how: "he" (variance 2 / fan_in), "lecun" (1 / fan_in), "xavier" (2 / (fan_in + fan_out)),
            "default" (torch.nn.Linear's, 1 / (3 fan_in)), "orthogonal", "zero", or "normal"
            (variance 1); all but "default" and "orthogonal" are normal.
        generator: Where chance comes from.
        gain: Factor of the deviation.

    Raises:
        UsageError: If there is no such way.
    """
    fan_out, fan_in = weight.shape
    deviations = {
        "he": math.sqrt(2 / fan_in),
        "lecun": math.sqrt(1 / fan_in),
        "xavier": math.sqrt(2 / (fan_in + fan_out)),
        "normal": 1.0,
        "zero": 0.0,
    }
    with torch.no_grad():
        if how in deviations:
            weight.normal_(0, 1, generator=generator).mul_(gain * deviations[how])
        elif how == "default":
            bound = gain / math.sqrt(fan_in)
            weight.uniform_(-bound, bound, generator=generator)
        elif how == "orthogonal":
            nn.init.orthogonal_(weight, gain, generator=generator)
        else:
            ways = (*deviations, "default", "orthogonal")
            raise UsageError(f"weights cannot be drawn by {how!r}; there are: {', '.join(ways)}")


def mlp(
    sizes: Sequence[int],
    activation: Activation,
    generator: torch.Generator,
    *,
    init: str = "he",
    gain: float = 1.0,
    bias: bool = True,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """A chain of linear layers with an activation between them, biases 0.

    Args:
        sizes: Inputs, units of each hidden layer, outputs.
        activation: After every layer but the last.
        generator: Where the weights come from.
        init: As in :func:`fill`.
        gain: Likewise.
        bias: Whether layers have one.
        dtype: Of the parameters.

    Returns:
        Linear layers at even places, activations at odd ones.
    """
    layers: list[nn.Module] = []
    for number, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        if number:
            layers.append(Lambda(activation))
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out, bias=bias, dtype=dtype)  # type: ignore[no-untyped-call]
        fill(linear.weight, init, generator, gain=gain)
        if bias:
            nn.init.zeros_(linear.bias)
        layers.append(linear)
    return nn.Sequential(*layers)


def linears(net: nn.Module) -> list[nn.Linear]:
    """Its linear layers, in order."""
    return [module for module in net.modules() if isinstance(module, nn.Linear)]


def batches(count: int, size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of mini-batches: every epoch a fresh order, its incomplete rest left out.

    Args:
        count: Samples there are.
        size: Of a batch; ``count`` or more gives full batches.
        steps: Batches in all.
        generator: Of the order.

    Yields:
        Shape (size,), int64.
    """
    size = min(size, count)
    given = 0
    while given < steps:
        order = torch.randperm(count, generator=generator)
        for start in range(0, count - size + 1, size):
            if given == steps:
                return
            yield order[start : start + size]
            given += 1


def train(
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    order: Iterator[Tensor],
    *,
    after: Callable[[int, float], None] | None = None,
) -> float:
    """Trains on the batches of ``order``.

    Args:
        net: Trained in place.
        optimiser: Of its parameters.
        loss: Of outputs and targets.
        x: Inputs.
        y: Targets.
        order: Batches of indices.
        after: Called after each step with its number and its batch's loss.

    Returns:
        The last batch's loss; nan if there was none.
    """
    value = math.nan
    for step, chosen in enumerate(order):
        optimiser.zero_grad(set_to_none=True)
        here = loss(net(x[chosen]), y[chosen])
        torch.autograd.backward(here)
        optimiser.step()
        value = here.item()
        if after is not None:
            after(step, value)
    return value


def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of samples whose largest output is their label's."""
    with torch.no_grad():
        return float((net(x).argmax(1) == y).float().mean())
