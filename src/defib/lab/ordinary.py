"""Data and networks of the ordinary trainings in which pathologies are planted: plain torch.

Letters: ``N`` samples, ``D`` inputs, ``C`` classes, ``S`` tokens of a sequence.
"""

import math

import torch
from torch import Tensor, nn

from defib.lab.data import digits
from defib.lab.draws import ACTIVATIONS, Draw, Kind

_TEST = 400


def data(of: Draw, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training inputs and targets, test inputs and targets, of a draw."""
    if of.kind in {Kind.DIGITS, Kind.IMAGES}:
        found = digits(seed=of.seed % 1000)
        shape = (-1, 1, 8, 8) if of.kind is Kind.IMAGES else (-1, 64)
        return found.x.reshape(shape), found.y, found.x_test.reshape(shape), found.y_test
    makers = {Kind.BINARY: _shell, Kind.REGRESSION: _smooth, Kind.SEQUENCES: _tokens}
    x, y = makers[of.kind](1600 + _TEST, generator)
    return x[_TEST:], y[_TEST:], x[:_TEST], y[:_TEST]


def _shell(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points of a normal cloud in four dimensions; 1 outside of the median radius; y has shape (N, 1)."""
    x = torch.randn(count, 4, generator=generator)
    radius = x.square().sum(1, keepdim=True)
    return x, (radius > radius.median()).float()


def _smooth(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Eight inputs, a linear part and two ripples, 5 % of noise; y has shape (N, 1), mean 0, deviation 1."""
    x = torch.randn(count, 8, generator=generator)
    along = torch.randn(8, 3, generator=generator) / math.sqrt(8)
    z = x @ along
    y = z[:, :1] + torch.sin(2 * z[:, 1:2]) + torch.tanh(2 * z[:, 2:])
    y = y + 0.05 * torch.randn(count, 1, generator=generator)
    return x, (y - y.mean()) / y.std()


TOKENS = 12
LENGTH = 10


def _tokens(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences of S tokens above 4, with one of the tokens 0 to 3 somewhere: the class."""
    x = torch.randint(4, TOKENS, (count, LENGTH), generator=generator)
    y = torch.randint(0, 4, (count,), generator=generator)
    place = torch.randint(0, LENGTH, (count,), generator=generator)
    x[torch.arange(count), place] = y
    return x, y


# ------------------------------------------------------------------ networks


class Recurrent(nn.Module):
    """Tokens, embedded, through a recurrent layer; its last state through a linear one."""

    def __init__(self, width: int, classes: int, *, gated: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, 16)
        self.body: nn.Module = (nn.GRU if gated else nn.LSTM)(16, width, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.body(self.embed(x))
        found: Tensor = self.head(states[:, -1])
        return found


def network(of: Draw, x: Tensor) -> nn.Module:
    """The network of a draw, initialised from torch's global generator, for inputs like ``x``."""
    if of.kind is Kind.SEQUENCES:
        return Recurrent(of.width, 4, gated=of.seed % 2 == 0)
    outputs = 1 if of.kind in {Kind.BINARY, Kind.REGRESSION} else 10
    layers: list[nn.Module] = []
    size = x.shape[1]
    bias = of.norm != "batch"  # which would take it away again
    for _ in range(of.depth):
        if of.kind is Kind.IMAGES:
            layers.append(nn.Conv2d(size, of.width, 3, padding=1, bias=bias))
        else:
            layers.append(nn.Linear(size, of.width, bias=bias))
        if of.norm == "batch":
            layers.append(nn.BatchNorm2d(of.width) if of.kind is Kind.IMAGES else nn.BatchNorm1d(of.width))
        elif of.norm == "layer":
            layers.append(nn.GroupNorm(1, of.width) if of.kind is Kind.IMAGES else nn.LayerNorm(of.width))
        layers.append(ACTIVATIONS[of.activation]())
        size = of.width
    if of.kind is Kind.IMAGES:
        layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten()]
        size *= 4
    layers.append(nn.Linear(size, outputs))
    net = nn.Sequential(*layers)
    if of.init == "matched":
        _match(net, of.activation)
    return net


def _match(net: nn.Module, activation: str) -> None:
    """Initialises hidden layers for their activation; the last layer keeps torch's default."""
    for layer in weighted(net)[:-1]:
        if activation in {"tanh", "sigmoid"}:
            nn.init.xavier_normal_(layer.weight)
        else:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def weighted(net: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    """Its linear and convolutional layers, in order."""
    return [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
