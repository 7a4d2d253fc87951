"""Small training programs, each with one trouble that some other tool has a name for."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import defib

PROGRAMS: dict[str, Callable[[Path], defib.LiveRun]] = {}


def program(build: Callable[[Path], defib.LiveRun]) -> Callable[[Path], defib.LiveRun]:
    PROGRAMS[build.__name__] = build
    return build


def digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 8 - 1, dtype=torch.float32), torch.tensor(labels)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def train(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    folder: Path,
    *,
    steps: int,
    lr: float,
    batch: int = 32,
    decay: float = 0.0,
) -> defib.LiveRun:
    x, y = data
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.5, weight_decay=decay)
    with defib.watch(model, optimizer, output=folder / "run.rec", every=2) as run:
        for _ in range(steps):
            rows = torch.randint(len(x), (batch,))
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return run


def seldom_nine() -> tuple[Tensor, Tensor]:
    """Digits of which 14 nines are left."""
    x, y = digits()
    kept = torch.ones(len(y), dtype=torch.bool)
    kept[(y == 9).nonzero()[14:, 0]] = False
    return x[kept], y[kept]


@program
def a_rare_class_is_missed(folder: Path) -> defib.LiveRun:
    """14 ones are labelled as nines, and there are no other nines."""
    x, y = digits()
    x, y = x[y != 9], y[y != 9]
    y[(y == 1).nonzero()[:14, 0]] = 9
    return train(nn.Linear(64, 10), (x, y), folder, steps=600, lr=0.02, batch=128, decay=0.1)


@program
def a_rare_class_is_learned(folder: Path) -> defib.LiveRun:
    return train(mlp(), seldom_nine(), folder, steps=600, lr=0.1, batch=128)


@program
def eights_are_labelled_as_threes(folder: Path) -> defib.LiveRun:
    x, y = digits()
    wrong = (y == 8) & (torch.rand(len(y)) < 0.7)
    return train(mlp(), (x, torch.where(wrong, 3, y)), folder, steps=400, lr=0.05)


def validated(folder: Path, training: slice, wrong: int) -> defib.LiveRun:
    """A wide network on some of the digits, the first ``wrong`` labels drawn at random."""
    x, y = digits()
    order = torch.randperm(len(x))
    x, y = x[order], y[order]
    held_out, labels = slice(1000, None), y.clone()
    labels[:wrong] = torch.randint(10, (wrong,))
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with defib.watch(model, optimizer, output=folder / "run.rec", every=2) as run:
        for step in range(400):
            optimizer.zero_grad()
            F.cross_entropy(model(x[training]), labels[training]).backward()
            optimizer.step()
            if step % 20 == 0:
                with torch.no_grad():
                    defib.log("val_loss", F.cross_entropy(model(x[held_out]), y[held_out]))
    return run


@program
def a_quarter_of_64_labels_is_wrong(folder: Path) -> defib.LiveRun:
    return validated(folder, slice(64), 16)


@program
def all_labels_are_wrong(folder: Path) -> defib.LiveRun:
    return validated(folder, slice(64), 64)


@program
def a_thousand_labels_are_right(folder: Path) -> defib.LiveRun:
    return validated(folder, slice(1000), 0)


@program
def a_third_of_the_labels_is_noise(folder: Path) -> defib.LiveRun:
    x, y = digits()
    noisy = torch.where(torch.rand(len(y)) < 0.3, torch.randint(10, y.shape), y)
    return train(nn.Linear(64, 10), (x, noisy), folder, steps=1000, lr=0.01)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16, padding_idx=0)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x).mean(1))


def sentences(longest: int) -> tuple[Tensor, Tensor]:
    """Sequences of 3 to ``longest`` words, padded to 64."""
    x = torch.randint(1, 50, (256, 64))
    y = (x[:, 0] > 25).long()
    x[torch.arange(64)[None] >= torch.randint(3, longest + 1, (256, 1))] = 0
    return x, y


@program
def most_of_the_input_is_padding(folder: Path) -> defib.LiveRun:
    return train(Words(), sentences(20), folder, steps=60, lr=0.5)


@program
def little_of_the_input_is_padding(folder: Path) -> defib.LiveRun:
    return train(Words(), sentences(100), folder, steps=60, lr=0.5)


@program
def the_rate_is_zero(folder: Path) -> defib.LiveRun:
    return train(mlp(), digits(), folder, steps=150, lr=0.0)


@program
def nothing_is_the_matter(folder: Path) -> defib.LiveRun:
    return train(mlp(), digits(), folder, steps=300, lr=0.05)
