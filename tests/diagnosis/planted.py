"""Kills planted in small trainings, with the truth by brute force.

A small network trains with a small step on data that is all positive, as
pixels are. On one step the learning rate is multiplied, or one batch has wild
targets, or both, or known units get a large gradient, by a factor that is
raised until units die. The truth is a plain forward pass over every batch, before its
step: a unit is alive on a step if its pre-activation is above 0 anywhere. A unit
that fires only where all units above it are off is blocked: what was planted is
no death then, and it is left out and counted.

Letters: ``T`` steps, ``U`` units.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

import defib
from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.live import LiveRun

T, BATCH = 100, 64
SILENT = 24
"""Steps of silence (1,536 samples) from which on a unit counts as dead: 0 of 1,536 is below 0.2 %."""
FACTORS = (30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 1e5, 1e6)

Optimize = Callable[[Iterable[Tensor]], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Optimize] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.02),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.005, momentum=0.9),
    "Nesterov": lambda p: torch.optim.SGD(p, lr=0.005, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=5e-4),
}
MANNERS = ("learning rate", "outlier batch", "both", "known units")
"""What goes wrong on the planted step; an outlier alone cannot kill under a bounded step (Adam, RMSprop)."""
KNOWN = (1, 4, 5)
"""Units whose biases get a large gradient, where known units are to die."""


def manners(optimizer: str, net: str) -> tuple[str, ...]:
    """What can kill under an optimiser in a network; batch norm forgives outliers."""
    if net == "conv":
        return ("learning rate", "known units")
    bounded = optimizer in {"Adam", "AdamW", "RMSprop"}
    return tuple(m for m in MANNERS if not (bounded and m == "outlier batch"))


class Mlp(nn.Module):
    """One hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.head = nn.Linear(8, 24), nn.Linear(24, 3)

    def hidden(self, x: Tensor) -> dict[str, Tensor]:
        return {"fc1": self.fc1(x)}

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.fc1(x)))


class Deep(nn.Module):
    """Two hidden layers: what the first loses moves the second."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.head = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def hidden(self, x: Tensor) -> dict[str, Tensor]:
        first = self.fc1(x)
        return {"fc1": first, "fc2": self.fc2(F.relu(first))}

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Conv(nn.Module):
    """A convolution without a bias, and batch norm: a channel lives if one position does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv1d(2, 12, 3, bias=False), nn.BatchNorm1d(12)
        self.head = nn.Linear(24, 3)

    def hidden(self, x: Tensor) -> dict[str, Tensor]:
        z = self.conv(x.view(-1, 2, 4))
        return {"bn": F.batch_norm(z, None, None, self.bn.weight, self.bn.bias, training=True)}

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.bn(self.conv(x.view(-1, 2, 4)))).flatten(1))


PARTS = {"fc1": ("fc1",), "fc2": ("fc2",), "bn": ("conv", "bn")}
"""The modules between what feeds a layer and its activation."""
NETS: dict[str, type[nn.Module]] = {"mlp": Mlp, "deep": Deep, "conv": Conv}
LAST = {Mlp: "fc1.bias", Deep: "fc2.bias", Conv: "bn.bias"}
"""The bias of the last hidden layer."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """What is planted: which optimiser, how, in which network, with which luck."""

    optimizer: str
    manner: str
    net: str
    seed: int

    @property
    def step(self) -> int:
        """The step whose update kills."""
        return 15 + self.seed * 7 % 40


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What the forward passes show.

    Attributes:
        alive: By layer, whether it fired, shape (T, U).
        heard: By layer, whether it fired where a unit of the next layer did, too, shape (T, U).
        update: By layer, Euclidean norm of the change of its parameters by the planted step.
        finite: No loss overflowed: a unit that is NaN is neither alive nor dead.
    """

    alive: dict[str, NDArray[np.bool_]]
    heard: dict[str, NDArray[np.bool_]]
    update: dict[str, float]
    finite: bool

    def last(self, path: str) -> NDArray[np.int64]:
        """Last step on which each unit fired, shape (U,); -1 for never."""
        return _last(self.alive[path])

    def dead(self, path: str) -> NDArray[np.bool_]:
        """Units that fired and then fell silent for at least ``SILENT`` steps, shape (U,)."""
        last = self.last(path)
        return np.asarray((last >= 0) & (T - 1 - last >= SILENT))

    def rare(self, path: str) -> NDArray[np.bool_]:
        """Silent units that had fired on less than half of the batches: silence proves little, shape (U,)."""
        last, alive = self.last(path), self.alive[path]
        return np.asarray((T - 1 - last > 0) & (alive.sum(0) < 0.5 * (last + 1)))

    def undecided(self, path: str) -> NDArray[np.bool_]:
        """Units that are rare or blocked, shape (U,)."""
        return self.rare(path) | (_last(self.heard[path]) != self.last(path))

    def killed(self, step: int) -> int:
        """Units that certainly fired on the planted step for the last time."""
        dying = (self.dead(p) & (self.last(p) == step) & ~self.undecided(p) for p in self.alive)
        return sum(int(units.sum()) for units in dying)


def _last(alive: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The last row that is true, by column; -1 if there is none."""
    return np.where(alive.any(0), T - 1 - np.argmax(alive[::-1], axis=0), -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """One training with its truth and what defib said of it."""

    kill: Kill
    factor: float
    truth: Truth
    findings: tuple[Finding, ...]
    last_alive: dict[str, NDArray[np.int64]]


def plant(kill: Kill, folder: Path) -> Trained:
    """Train, with a factor that is raised until the planted step kills.

    Returns:
        The first training in which at least one unit fired on the planted step for the last time.

    Raises:
        AssertionError: If no factor kills.
    """
    for factor in FACTORS:
        truth = _train(kill, factor, None)[0]
        if truth.finite and truth.killed(kill.step):
            truth, run = _train(kill, factor, folder / f"{kill.seed}.rec")
            assert run is not None
            assert truth.killed(kill.step), "a watched run is the same run"
            assert run.faults == 0
            liveness = run.view.liveness
            last = {path: liveness[path].last_alive for path in truth.alive}
            return Trained(
                kill=kill,
                factor=factor,
                truth=truth,
                findings=tuple(_flat(run.diagnose().findings)),
                last_alive=last,
            )
    raise AssertionError(f"nothing died: {kill}")


def _train(kill: Kill, factor: float, record: Path | None) -> tuple[Truth, LiveRun | None]:
    """One training; watched on every step if a record is named."""
    torch.manual_seed(kill.seed)
    model = NETS[kill.net]()
    optimizer = OPTIMIZERS[kill.optimizer](model.parameters())
    teacher = torch.randn(8, 3)
    watched = None if record is None else defib.watch(model, optimizer, output=record, every=1)
    alive: dict[str, list[Tensor]] = {}
    heard: dict[str, list[Tensor]] = {}
    update: dict[str, float] = {}
    finite = True
    for step in range(T):
        x = 2 * torch.rand(BATCH, 8)
        y = torch.tanh((x - 1) @ teacher)
        with torch.no_grad():
            fired = {
                path: (z > 0).flatten(2) if z.ndim > 2 else (z > 0)[:, :, None]
                for path, z in model.hidden(x).items()
            }
        for path, on in fired.items():
            alive.setdefault(path, []).append(on.any(0).any(1))
            above = fired["fc2"].any(1, keepdim=True) if path == "fc1" and "fc2" in fired else True
            heard.setdefault(path, []).append((on & above).any(0).any(1))
        planted = step == kill.step
        if planted and kill.manner in {"outlier batch", "both"}:
            y = y * factor
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        finite = finite and bool(loss.isfinite())
        if planted and kill.manner == "known units":
            _push_under(model)
        before = {path: _values(model, path) for path in alive} if planted else {}
        _step(optimizer, factor if planted and kill.manner != "outlier batch" else 1.0)
        update |= {path: float((_values(model, path) - b).norm()) for path, b in before.items()}
    if watched is not None:
        watched.close()
    truth = Truth(alive=_stacked(alive), heard=_stacked(heard), update=update, finite=finite)
    return truth, watched


def _stacked(rows: dict[str, list[Tensor]]) -> dict[str, NDArray[np.bool_]]:
    """All steps of each layer, shape (T, U)."""
    return {path: torch.stack(steps).numpy() for path, steps in rows.items()}


def _push_under(model: nn.Module) -> None:
    """A large gradient for the biases of the known units of the last hidden layer."""
    bias = model.get_parameter(LAST[type(model)])
    assert bias.grad is not None
    known = list(KNOWN)
    bias.grad[known] += (bias.grad[known] != 0).float()  # who does not fire gets none, whatever the outlier


def _step(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """One step with the learning rate multiplied for this once."""
    for group in optimizer.param_groups:
        group["lr"] *= factor
    optimizer.step()
    for group in optimizer.param_groups:
        group["lr"] /= factor


def _values(model: nn.Module, path: str) -> Tensor:
    """All parameters of a layer in a row."""
    modules = [model.get_submodule(part) for part in PARTS[path]]
    return torch.cat([p.detach().flatten().double() for m in modules for p in m.parameters()])


def _flat(findings: Iterable[Finding]) -> Iterable[Finding]:
    """All findings, also those that others explain."""
    for finding in findings:
        yield finding
        yield from _flat(finding.explains)


def faults(trained: Trained) -> list[str]:
    """Every difference between what was reported and the truth; empty if there is none."""
    found: list[str] = []
    for path in trained.truth.alive:
        found += [f"{path}: {text}" for text in _faults_in(trained, path)]
    return found


def _faults_in(trained: Trained, path: str) -> Iterable[str]:
    """The differences in one layer."""
    truth = trained.truth
    decided = ~truth.undecided(path)
    dead = truth.dead(path)
    said = np.zeros(len(dead), dtype=np.bool_)
    mine = [f for f in trained.findings if f.rule == "dead-unit" and f.layer == path]
    for finding in mine:
        if finding.cause is not Cause.BORN_DEAD:
            said[list(finding.units)] = True
    if (said != dead)[decided].any():
        yield f"dead {np.flatnonzero(dead).tolist()}, reported {np.flatnonzero(said).tolist()}"
    wrong = dead & decided & (trained.last_alive[path] != truth.last(path))
    if wrong.any():
        yield f"last step alive of units {np.flatnonzero(wrong).tolist()} is wrong"
    for finding in (f for f in mine if f.cause is not Cause.BORN_DEAD):
        yield from _faults_of(finding, trained, path)


def _faults_of(finding: Finding, trained: Trained, path: str) -> Iterable[str]:
    """The differences in one finding: its first step, the killing update, that update's size."""
    truth = trained.truth
    last = truth.last(path)[list(finding.units)]
    if finding.since_step != last.min() + 1:
        yield f"since step {finding.since_step}, in truth {last.min() + 1}"
    numbers = {e.name: e.value for e in finding.evidence}
    steps, counts = np.unique(last, return_counts=True)
    killing = int(steps[np.argmax(counts)])
    if numbers.get("killing update") != killing:
        yield f"killing update {numbers.get('killing update')}, in truth {killing}"
    if killing == trained.kill.step:
        size = numbers.get("size of the killing update, all tensors of the layer")
        if not isinstance(size, float) or abs(size - truth.update[path]) > 1e-3 * truth.update[path]:
            yield f"size of the update {size}, in truth {truth.update[path]}"
