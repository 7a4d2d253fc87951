"""The small network that the pitfall tests train."""

import torch
import torch.nn.functional as F
from memory import Memory
from torch import Tensor, nn

from defib.capture.session import Session, start


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3))


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 1, shape: tuple[int, ...] = (6,)
) -> list[float]:
    """An ordinary loop on random data; returns the losses."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(torch.randn(5, *shape)), torch.randint(3, (5,)))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def bare_run(steps: int, seed: int = 0) -> list[Tensor]:
    """The weights that an unwatched run ends with."""
    torch.manual_seed(seed)
    model = mlp()
    train(model, torch.optim.Adam(model.parameters()), steps)
    return weights(model)


def watched(model: nn.Module, sink: Memory, every: int | None = 1) -> Session:
    return start(model, sink=sink, every=every)
