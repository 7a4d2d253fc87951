"""Small real trainings under watch, read back from the record."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import defib
from defib.core.diagnosis import Diagnosis
from defib.core.finding import Finding
from defib.core.run import RunView

FEATURES, CLASSES = 8, 3
LR = 0.3
Step = Callable[[Tensor, Tensor], Tensor]


def data(samples: int = 256, features: int = FEATURES) -> tuple[Tensor, Tensor]:
    """Points in a cube, labelled by which of three directions they lie along: easily learnt."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(samples, features, generator=generator)
    return x, (x @ torch.randn(features, CLASSES, generator=generator)).argmax(1)


def mlp(width: int = 16, depth: int = 1, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    sizes = [FEATURES, *[width] * depth]
    hidden = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), activation())]
    return nn.Sequential(*hidden, nn.Linear(width, CLASSES))


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int,
    batch: int = 64,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> list[float]:
    """An ordinary loop; returns the losses."""
    x, y = data()
    losses = []
    for step in range(steps):
        rows = (torch.arange(batch) + step * batch) % len(x)
        optimizer.zero_grad()
        loss = F.cross_entropy((forward or model)(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def watched(
    path: Path, model: nn.Module, steps: int = 60, lr: float = LR, keep_inputs: bool = True, **kwargs: Any
) -> RunView:
    """The record of a training with SGD, opened again from the disk, without a fault."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with defib.watch(model, optimizer, output=path, every=1, keep_inputs=keep_inputs) as run:
        train(model, optimizer, steps, **kwargs)
    return reopened(run)


def reopened(run: Any) -> RunView:
    """What a closed run left on the disk."""
    assert run.faults == 0
    assert run.record_fault is None
    return defib.open_run(run.path).view


def diagnosis(view: RunView) -> Diagnosis:
    answer = defib.diagnose(view)
    assert answer.not_run == ()
    return answer


def alarms(answer: Diagnosis) -> list[Finding]:
    return [f for f in answer.findings if f.severity != "info"]


def every_finding(answer: Diagnosis) -> list[Finding]:
    """Findings and those that they explain, on every level."""
    found, waiting = [], list(answer.findings)
    while waiting:
        found.append(waiting.pop())
        waiting += found[-1].explains
    return found


def size(path: Path) -> int:
    """Bytes of a record."""
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]
