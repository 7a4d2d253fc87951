"""How far does momentum carry the weights after the last gradient?

Claim
-----
Momentum, a rolling mean of recent gradients, keeps weights moving after the gradient became
zero, and so can bring a dead unit back. A network can continue learning although the
derivative of the loss is zero.

Prediction
----------
Let v be the momentum buffer when gradients end, eta the learning rate, mu the momentum. What
is still travelled: SGD eta mu/(1-mu) v (9 times eta v at 0.9); Nesterov eta mu^2/(1-mu) v;
Adam eta m/sqrt(v) times the sum over k of beta1^k / (1-beta1^(t+k)) sqrt(1-beta2^(t+k)) /
beta2^(k/2), 9.045 for large t; plain SGD nothing. torch's SGD buffer is a sum, g/(1-mu) under
a constant gradient g; it is the mean only if dampening = mu; Adam's is a mean.

A unit that a step along its buffer killed goes on in the same direction: on every sample on
which it fired before the step, its sum keeps falling. So coasting revives it only through
other samples. (Frozen upstream; heavy ball.)

Method
------
torch's own optimisers, a constant gradient, then zeros, in float64. Then random ReLU units
with random buffers: one step each; of those that it kills, which coast back, and through what.

References:
----------
Sutskever, Martens, Dahl, Hinton 2013, On the importance of initialization and momentum.
Kingma, Ba 2015, Adam.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import Estimate, at_least, exact, near, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line

Make = Callable[[list[Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    momentum: float = dial(0.9, "mu, of SGD")
    decay: float = dial(1e-3, "weight decay of the arm that has nothing else")
    beta1: float = dial(0.9, "Adam's mean of gradients forgets with it")
    beta2: float = dial(0.999, "Adam's mean of squares forgets with it")
    rate: float = dial(0.01, "learning rate")
    warm: int = dial(20000, "steps with gradient 1", quick=4000)
    coast: int = dial(400, "steps with gradient 0 after it")
    tolerance: float = dial(0.01, "relative error up to which two numbers are one")
    moved: float = dial(1e-9, "change of a weight that counts as one")
    units: int = dial(40000, "random units hit by one random step", quick=12000)
    samples: int = dial(30, "samples that a unit sees")
    inputs: int = dial(6, "inputs of a unit, in [0, 1]")
    step_rate: float = dial(0.3, "learning rate of the killing step")
    scale: float = dial(0.5, "deviation of a unit's weights and of its buffer; that of the gradient is 1")
    some: float = dial(0.01, "share of units that counts as some")
    reverse: bool = dial(False, "whether the buffer is turned round after the killing step")


class Coasting(Experiment[Dials]):
    """Zero gradients into torch's optimisers."""

    slug = "coasting"
    title = "How far does momentum carry weights after the last gradient, and does it revive?"
    topic = Topic.ESCAPE
    rows = ("S0-4", "S0-5", "S0-19")
    dials = Dials
    perturbations = (
        Perturbation(
            why="a buffer turned round carries the unit back to the samples it fired on",
            dials={"reverse": True},
            changes=("S0-4",),
        ),
        Perturbation(
            why="without momentum the buffer is the gradient itself: also its mean",
            dials={"momentum": 0.0},
            changes=("S0-5",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        arms = _arms(dials)
        paths, buffers = {}, {}
        for name, make in run.track(arms.items()):
            paths[name], buffers[name] = _path(make, dials)
        kills, back, former = _coasters(dials, run.torch(1))
        return Measurement(
            parts=(*_moving(dials, paths, kills, back, former), *_mean(dials, buffers), *_zero(dials, paths)),
            figure=_figure(dials, paths),
            note=f"{kills} units were killed by one random step; {back} of them coasted back to life, "
            f"{former} through a sample on which they had fired before.",
        )


def _arms(dials: Dials) -> dict[str, Make]:
    mu, rate = dials.momentum, dials.rate
    return {
        "SGD": lambda p: torch.optim.SGD(p, lr=rate),
        "SGD, decay": lambda p: torch.optim.SGD(p, lr=rate, weight_decay=dials.decay),
        "momentum": lambda p: torch.optim.SGD(p, lr=rate, momentum=mu),
        "dampened momentum": lambda p: torch.optim.SGD(p, lr=rate, momentum=mu, dampening=mu),
        "Nesterov": lambda p: torch.optim.SGD(p, lr=rate, momentum=mu, nesterov=mu > 0),
        "Adam": lambda p: torch.optim.Adam(p, lr=rate, betas=(dials.beta1, dials.beta2), eps=1e-30),
    }


def _path(make: Make, dials: Dials) -> tuple[Tensor, float]:
    """Travel after the last gradient, in learning rates, step by step; and the buffer then."""
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimiser = make([p])
    p.grad = torch.ones_like(p)
    for _ in range(dials.warm):
        optimiser.step()
    state = optimiser.state[p]
    kept = state.get("exp_avg", state.get("momentum_buffer"))
    buffer = float(kept) if kept is not None else 1.0
    p.grad.zero_()
    places = [float(p.detach())]
    for _ in range(dials.coast):
        optimiser.step()
        places.append(float(p.detach()))
    return (torch.tensor(places, dtype=torch.float64) - places[0]).abs() / dials.rate, buffer


def _predicted(dials: Dials) -> dict[str, float]:
    """Whole travel over learning rate, by the formulas of the page; the gradient was 1."""
    mu = dials.momentum
    k = np.arange(1, dials.coast + 1)
    late = dials.warm + k
    adam = dials.beta1**k / (1 - dials.beta1**late) * np.sqrt((1 - dials.beta2**late) / dials.beta2**k)
    return {
        "momentum": mu / (1 - mu) ** 2,
        "dampened momentum": mu / (1 - mu),
        "Nesterov": mu**2 / (1 - mu) ** 2,
        "Adam": float(adam.sum()),
    }


def _moving(dials: Dials, paths: dict[str, Tensor], kills: int, back: int, former: int) -> list[Part]:
    travels = [
        Part(
            row="S0-4",
            says=f"{name}: weights travel on after the last gradient, as far as the formula says",
            estimate=exact(float(paths[name][-1])),
            region=near(far, dials.tolerance * far),
        )
        for name, far in _predicted(dials).items()
    ]
    some = at_least(dials.some)
    return [
        *travels,
        Part(
            row="S0-4",
            says="some units that a step killed coast back to life",
            estimate=share(back, kills),
            region=some,
        ),
        Part(
            row="S0-4",
            says="some come back to a sample on which they fired before the step",
            estimate=share(former, kills),
            region=some,
        ),
    ]


def _mean(dials: Dials, buffers: dict[str, float]) -> list[Part]:
    return [
        Part(
            row="S0-5",
            says=f"{name}: under a constant gradient the buffer is the mean gradient",
            estimate=exact(buffers[name]),
            region=near(1.0, dials.tolerance),
        )
        for name in ("momentum", "dampened momentum", "Adam")
    ]


def _zero(dials: Dials, paths: dict[str, Tensor]) -> list[Part]:
    def travelled(name: str) -> Estimate:
        return exact(float(paths[name][-1]) * dials.rate)

    return [
        Part(
            row="S0-19",
            says=f"{name}: weights change while every derivative is 0",
            estimate=travelled(name),
            region=at_least(dials.moved),
        )
        for name in ("momentum", "Adam", "SGD, decay", "SGD")
    ]


def _coasters(dials: Dials, generator: torch.Generator) -> tuple[int, int, int]:
    """Units that one step kills, those that coast back, and those that do on a sample of before.

    Letters: U units, N samples, D inputs; the last of D + 1 columns is the bias.

    Returns:
        The three counts.
    """

    def normal(scale: float) -> Tensor:
        shape = (dials.units, dials.inputs + 1, 1)
        return torch.randn(shape, generator=generator, dtype=torch.float64) * scale

    x = torch.rand(dials.units, dials.samples, dials.inputs, generator=generator, dtype=torch.float64)
    x = torch.cat([x, torch.ones_like(x[..., :1])], -1)
    p, buffer, gradient = normal(dials.scale), normal(dials.scale), normal(1.0)
    before = (x @ p).squeeze(-1)
    buffer = dials.momentum * buffer + gradient
    step = (x @ buffer).squeeze(-1) * dials.step_rate
    after = before - step
    killed = (before > 0).any(1) & (after <= 0).all(1)
    sign = -1.0 if dials.reverse else 1.0
    k = torch.arange(1, dials.coast + 1, dtype=torch.float64)
    travel = sign * torch.cumsum(dials.momentum**k, 0)
    former = torch.zeros_like(killed)
    back = torch.zeros_like(killed)
    for far in travel[torch.unique(torch.logspace(0, np.log10(dials.coast), 40).long()) - 1]:
        fires = (after - far * step) > 0
        back |= fires.any(1)
        former |= (fires & (before > 0)).any(1)
    return int(killed.sum()), int((back & killed).sum()), int((former & killed).sum())


def _figure(dials: Dials, paths: dict[str, Tensor]) -> Figure:
    shown = range(min(101, dials.coast + 1))
    drawn = [line(name, shown, path[: len(shown)]) for name, path in paths.items() if name != "SGD, decay"]
    drawn += [
        line(f"{name}: predicted", (0, shown[-1]), (far, far), dashed=True)
        for name, far in _predicted(dials).items()
    ]
    return Figure(
        title="Travel after the last gradient",
        x="steps with zero gradient",
        y="travel / (learning rate x gradient)",
        lines=tuple(drawn),
    )
