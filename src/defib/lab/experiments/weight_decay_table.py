"""Which weight decay frees a dead unit?

Claim
-----
Weight decay moves weights without any gradient, and may move a unit out of its dead zone.
Decay frees a dead unit after a few steps; then it learns on.

Prediction
----------
A dead unit has s(x) = w x + b <= 0 for every input, and no gradient. Let eta be the learning
rate, lambda the decay; what feeds the unit stays as it is.

* SGD or AdamW, w and b decayed: s is multiplied by 1 - eta lambda each step; it shrinks towards
  0 and keeps its sign. Never.
* Only w decayed (the usual recipe: no decay of biases): w x shrinks away and leaves b. If and
  only if b > 0, after k = floor(ln(b / min over x of |w x|) / ln(1 - eta lambda)) + 1 steps.
* Adam with L2 (decay added to the gradient): the step is about eta sign(p), the same for
  every parameter, so the ratio of w to b changes, and with it the sign of s.

Method
------
Dead units with random weights are drawn; torch's own optimisers get zero gradients for them
until they fire on some sample. The formula for k is drawn beside the measured steps. Each
unit that came back takes one backward pass: has it a gradient again?

References:
----------
Loshchilov, Hutter 2019, Decoupled weight decay regularization.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, exact, median, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, line

Make = Callable[[Tensor, Tensor], torch.optim.Optimizer]


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    units: int = dial(600, "dead units", quick=300)
    samples: int = dial(40, "samples that a unit sees")
    inputs: int = dial(8, "inputs of a unit, in [0, 1]")
    rate: float = dial(0.1, "learning rate of SGD")
    decay: float = dial(5e-3, "weight decay of SGD")
    adam_rate: float = dial(2e-3, "learning rate of Adam and AdamW")
    adam_decay: float = dial(0.05, "weight decay of Adam and AdamW")
    steps: int = dial(12000, "steps with zero gradient", quick=4000)
    every: int = dial(5, "steps between two looks whether a unit fires", quick=20)
    few: int = dial(20, "steps that still count as a few")
    some: float = dial(0.05, "share of units that counts as some")
    moved: float = dial(1e-6, "change of a weight that counts as one")
    share_positive: float = dial(0.5, "share of the dead units that are given a positive bias")


class WeightDecayTable(Experiment[Dials]):
    """Dead units under every kind of decay."""

    slug = "weight-decay-table"
    title = "Which weight decay frees a dead unit, and when?"
    topic = Topic.ESCAPE
    rows = ("S0-6", "S0-7")
    dials = Dials
    perturbations = (
        Perturbation(
            why="without decay nothing moves and nothing comes back",
            dials={"decay": 0.0, "adam_decay": 0.0},
            changes=("S0-6", "S0-7"),
        ),
        Perturbation(
            why="a decay so strong that weights halve in a step frees units in a few steps",
            dials={"decay": 5.0, "adam_rate": 0.5, "few": 20},
            changes=("S0-7",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        w, b, x = _dead_units(dials, run.torch(0))
        first, moved = {}, 0.0
        for name, make in run.track(_arms(dials).items()):
            first[name], travel = _returns(make, w, b, x, dials)
            moved = max(moved, travel) if name == "SGD, w and b" else moved
        positive = b[:, 0] > 0
        return Measurement(
            parts=(*_revival(dials, first, positive, moved), *_wait(dials, first, w, b, x)),
            figure=_figure(dials, first, w, b, x),
        )


def _arms(dials: Dials) -> dict[str, Make]:
    """By name, what makes an optimiser of w and b."""

    def without_bias(w: Tensor, b: Tensor, decay: float) -> list[dict[str, object]]:
        return [{"params": [w], "weight_decay": decay}, {"params": [b], "weight_decay": 0.0}]

    sgd = dials.decay
    adam = dials.adam_decay
    rate = dials.adam_rate
    return {
        "SGD, w and b": lambda w, b: torch.optim.SGD([w, b], lr=dials.rate, weight_decay=sgd),
        "SGD, only w": lambda w, b: torch.optim.SGD(without_bias(w, b, sgd), lr=dials.rate),
        "AdamW, w and b": lambda w, b: torch.optim.AdamW([w, b], lr=rate, weight_decay=adam),
        "Adam with L2, w and b": lambda w, b: torch.optim.Adam([w, b], lr=rate, weight_decay=adam),
        "Adam with L2, only w": lambda w, b: torch.optim.Adam(without_bias(w, b, adam), lr=rate),
    }


def _dead_units(dials: Dials, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (U, D), biases (U, 1) and inputs (N, D): every sum negative, every w x too."""
    x = torch.rand(dials.samples, dials.inputs, generator=generator, dtype=torch.float64)
    found: list[Tensor] = []
    wanted = {True: round(dials.units * dials.share_positive), False: 0}
    wanted[False] = dials.units - wanted[True]
    while any(wanted.values()):
        p = torch.randn(dials.units * 4, dials.inputs + 1, generator=generator, dtype=torch.float64)
        dead = (p[:, :-1] @ x.T).amax(1) + p[:, -1] < 0
        for positive, missing in wanted.items():
            chosen = p[dead & ((p[:, -1] > 0) == positive)][:missing]
            wanted[positive] -= len(chosen)
            found.append(chosen)
    units = torch.cat(found)
    return units[:, :-1].contiguous(), units[:, -1:].contiguous(), x


def _returns(make: Make, w: Tensor, b: Tensor, x: Tensor, dials: Dials) -> tuple[Tensor, float]:
    """The first look at which each unit fires (infinite if none), and the largest change of a weight."""
    weight, bias = torch.nn.Parameter(w.clone()), torch.nn.Parameter(b.clone())
    optimiser = make(weight, bias)
    weight.grad, bias.grad = torch.zeros_like(w), torch.zeros_like(b)
    first = torch.full((len(w),), torch.inf, dtype=torch.float64)
    for step in range(1, dials.steps + 1):
        optimiser.step()
        if step % dials.every == 0 or step <= dials.few:
            with torch.no_grad():
                fires = ((weight @ x.T + bias) > 0).any(1)
            first[fires & first.isinf()] = step
    return first, float((weight.detach() - w).abs().max())


def _revival(dials: Dials, first: dict[str, Tensor], positive: Tensor, moved: float) -> list[Part]:
    def freed(name: str, says: str, chosen: Tensor | None = None) -> Part:
        back = first[name].isfinite() if chosen is None else first[name].isfinite()[chosen]
        return Part(
            row="S0-6",
            says=f"{name}: decay frees some dead units{says}",
            estimate=share(int(back.sum()), len(back)),
            region=at_least(dials.some),
        )

    return [
        Part(
            row="S0-6",
            says="weights change although every gradient is 0",
            estimate=exact(moved, n=dials.units),
            region=at_least(dials.moved),
        ),
        freed("SGD, w and b", ""),
        freed("AdamW, w and b", ""),
        freed("SGD, only w", " whose bias is positive", positive),
        freed("SGD, only w", " whose bias is negative", ~positive),
        freed("Adam with L2, w and b", ""),
    ]


def _wait(dials: Dials, first: dict[str, Tensor], w: Tensor, b: Tensor, x: Tensor) -> list[Part]:
    arms = ("SGD, only w", "Adam with L2, w and b")
    waits = [
        Part(
            row="S0-7",
            says=f"{name}: a unit that comes back does so within a few steps (median)",
            estimate=median(first[name][first[name].isfinite()], unit="steps"),
            region=at_most(dials.few),
        )
        for name in arms
    ]
    learning, back = _learns_again(first["SGD, only w"], w, b, x, dials)
    return [
        *waits,
        Part(
            row="S0-7",
            says="units that came back learn on: they have a gradient again",
            estimate=share(learning, back),
            region=at_least(1 - dials.some),
        ),
    ]


def _learns_again(first: Tensor, w: Tensor, b: Tensor, x: Tensor, dials: Dials) -> tuple[int, int]:
    """How many units get a gradient at their return, with only w decayed; and how many return."""
    back = first.isfinite()
    shrunk = w[back] * (1 - dials.rate * dials.decay) ** first[back, None]
    weight = shrunk.requires_grad_()
    (gradient,) = torch.autograd.grad(torch.relu(weight @ x.T + b[back]).sum(), weight)
    return int((gradient != 0).any(1).sum()), int(back.sum())


def _figure(dials: Dials, first: dict[str, Tensor], w: Tensor, b: Tensor, x: Tensor) -> Figure:
    """Measured first step against the formula's, for the arm that has one."""
    back = first["SGD, only w"].isfinite()
    factor = torch.tensor(1 - dials.rate * dials.decay, dtype=torch.float64)
    least = (w[back] @ x.T).abs().amin(1)
    predicted = torch.floor(torch.log(b[back, 0] / least) / torch.log(factor)) + 1
    far = float(predicted.max()) if len(predicted) else 1.0
    return Figure(
        title="Step at which a dead unit fires again, only w decayed (SGD)",
        x="predicted step",
        y="measured step",
        kind=Kind.POINTS,
        lines=(
            line("unit", predicted, first["SGD, only w"][back]),
            line("formula", (1, far), (1, far), dashed=True),
        ),
    )
