"""Small networks of every kind through which a gradient runs, each with a batch; for the gain ledger.

Letters: ``N`` samples, ``T`` positions.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

N, WIDTH, CLASSES = 32, 32, 10
Batch = tuple[Tensor, Tensor]


def vectors() -> Batch:
    return torch.randn(N, WIDTH).double(), torch.arange(N) % CLASSES


def images() -> Batch:
    return torch.randn(N, 1, 12, 12).double(), torch.arange(N) % CLASSES


def sequences() -> Batch:
    return torch.randn(N, 12, 8).double(), torch.arange(N) % CLASSES


def plain(norm: Callable[[int], nn.Module] | None = None) -> nn.Module:
    modules: list[nn.Module] = []
    for _ in range(6):
        modules += [nn.Linear(WIDTH, WIDTH), *([norm(WIDTH)] if norm else []), nn.ReLU()]
    return nn.Sequential(*modules, nn.Linear(WIDTH, CLASSES)).double()


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(torch.relu(self.inner(x)))


def residual() -> nn.Module:
    blocks = [Residual() for _ in range(6)]
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), *blocks, nn.Linear(WIDTH, CLASSES)).double()


class Basic(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a, self.b = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.one, self.two = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.two(self.b(torch.relu(self.one(self.a(x))))))


def resnet() -> nn.Module:
    stem = [nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)]
    return nn.Sequential(*stem, *(Basic(8) for _ in range(3)), *head).double()


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, stride=2), nn.GELU(),
        nn.Flatten(), nn.Linear(64, WIDTH), nn.Tanh(), nn.Linear(WIDTH, CLASSES),
    ).double()  # fmt: skip


class Sequence(nn.Module):
    """A layer over a sequence between an embedding and a head on the last position, or on the mean."""

    def __init__(self, body: nn.Module, *, mean: bool = False) -> None:
        super().__init__()
        self.embed, self.body, self.head = nn.Linear(8, WIDTH), body, nn.Linear(WIDTH, CLASSES)
        self.mean = mean

    def forward(self, x: Tensor) -> Tensor:
        given = self.body(self.embed(x))
        h = given[0] if isinstance(given, tuple) else given
        return self.head(h.mean(1) if self.mean else h[:, -1])


def recurrent(cell: type[nn.RNNBase]) -> nn.Module:
    return Sequence(cell(WIDTH, WIDTH, batch_first=True)).double()


def transformer(*, first: bool) -> nn.Module:
    layers = (
        nn.TransformerEncoderLayer(WIDTH, 4, 64, batch_first=True, norm_first=first, dropout=0.1)
        for _ in range(3)
    )
    return Sequence(nn.Sequential(*layers), mean=True).double()


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return (self.q(x) @ self.k(x).transpose(1, 2) / WIDTH**0.5).softmax(-1) @ self.v(x)


FAMILIES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Batch]]] = {
    "plain": (plain, vectors),
    "batch norm": (lambda: plain(nn.BatchNorm1d), vectors),
    "layer norm": (lambda: plain(nn.LayerNorm), vectors),
    "residual": (residual, vectors),
    "convolutional": (convolutional, images),
    "residual, convolutional, batch norm": (resnet, images),
    "attention by hand": (lambda: Sequence(Attention(), mean=True).double(), sequences),
    "transformer, norm first": (lambda: transformer(first=True), sequences),
    "transformer, norm last": (lambda: transformer(first=False), sequences),
    "RNN": (lambda: recurrent(nn.RNN), sequences),
    "LSTM": (lambda: recurrent(nn.LSTM), sequences),
    "GRU": (lambda: recurrent(nn.GRU), sequences),
}
