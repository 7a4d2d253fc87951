"""What a healthy training job is, and the real data that all of them learn from."""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

Batches = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A network on its way.

    Attributes:
        model: The whole of it.
        optimizers: All of them.
        step: Trains one batch and returns the loss.
        steps: How many steps make a fair look.
        drop: The mean loss of the last tenth is at most this share of the first steps' mean.
    """

    model: nn.Module
    optimizers: tuple[torch.optim.Optimizer, ...]
    step: Callable[[], float]
    steps: int = 100
    drop: float = 0.6


def job(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    loss: Callable[[Tensor, Tensor], Tensor],
    steps: int = 100,
    drop: float = 0.6,
) -> Job:
    def step() -> float:
        x, y = next(batches)
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        return value.item()

    return Job(model=model, optimizers=(optimizer,), step=step, steps=steps, drop=drop)


# ------------------------------------------------------------------ data


@cache
def digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 8.0 - 1.0, dtype=torch.float32), torch.tensor(labels)


@cache
def text() -> Tensor:
    return torch.tensor(list(Path(argparse.__file__).read_bytes()), dtype=torch.long)


def draws(x: Tensor, y: Tensor, batch: int = 32) -> Batches:
    while True:
        for rows in torch.randperm(len(x)).split(batch)[:-1]:
            yield x[rows], y[rows]


def digit_vectors(batch: int = 32) -> Batches:
    return draws(*digits(), batch)


def digit_images(batch: int = 32) -> Batches:
    return draws(digits()[0].view(-1, 1, 8, 8), digits()[1], batch)


def digit_rows(batch: int = 32) -> Batches:
    """Images as sequences of eight rows, shape (N, 8, 8)."""
    return draws(digits()[0].view(-1, 8, 8), digits()[1], batch)


def sentences(length: int, batch: int = 16) -> Batches:
    """Byte sequences and the byte that follows each position, both of shape (N, T)."""
    while True:
        rows = torch.randint(len(text()) - length - 1, (batch, 1)) + torch.arange(length + 1)
        yield text()[rows][:, :-1], text()[rows][:, 1:]


def adam(model: nn.Module, lr: float = 2e-3) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=lr)


def sgd(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
