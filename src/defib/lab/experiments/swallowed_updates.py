"""Can learning stop while every derivative is different from zero?

Claim
-----
Learning may stop without a single zero in the Jacobian.

Prediction
----------
A number w of a binary format has neighbours at a distance of eps |w| / 2 to eps |w| (eps is
the distance from 1 to the next number: 2^-7 in bfloat16, 2^-10 in float16, 2^-23 in
float32). Rounding to the nearest, w + d is w again if |d| is less than half that distance:
always if |d| < eps |w| / 4, never if |d| > eps |w| / 2. An optimiser whose steps are smaller
than that writes the old number back, whatever the derivative. Adam's steps have about the
size of its learning rate: in bfloat16 at rate 1e-5 every weight larger than 1e-5 * 512 =
0.005 stands still. The same holds for weight decay: the factor 1 - rate * decay rounds to 1
if rate * decay < eps / 4.

Method
------
Networks with tanh units on normal inputs, stored and trained in one format by Adam, full
batch. Counted: gradients that are exactly 0 at the first step; weights with a gradient whose
stored value is the same after that step; the fall of the loss over the run, as a share of
the fall in float32 from the same weights, network by network. The figure gives the share of
swallowed updates against the size of the update.

References:
----------
Zamirai et al. 2021, Revisiting bfloat16 training (nearest rounding cancels updates).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.crowd import Crowd
from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, exact, mean
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Line, line

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(40, "networks", quick=12, paper=200)
    samples: int = dial(64, "samples of the data set")
    inputs: int = dial(8, "inputs, normal")
    width: int = dial(16, "hidden tanh units")
    steps: int = dial(150, "steps of Adam", quick=60)
    rate: float = dial(1e-5, "learning rate of Adam")
    dtype: str = dial("bfloat16", "format of weights and optimiser", choices=DTYPES)
    eps: float = dial(1e-8, "Adam's eps")
    swallowed: float = dial(0.9, "smallest share of weights standing still that counts as stopped")
    progress: float = dial(0.1, "largest share of float32's progress that counts as stopped")


class SwallowedUpdates(Experiment[Dials]):
    """Adam in a short format: gradients everywhere, and no weight moves."""

    slug = "swallowed-updates"
    title = "Can learning stop while every derivative is different from zero?"
    topic = Topic.NUMERICS
    rows = ("S0-24",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="float32 has room for the same updates: nothing is swallowed",
            dials={"dtype": "float32"},
            changes=("S0-24",),
        ),
        Perturbation(
            why="updates larger than half the distance between numbers are all stored",
            dials={"rate": 1e-2},
            changes=("S0-24",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        short = _train(dials, run, DTYPES[dials.dtype])
        long = _train(dials, run, torch.float32)
        parts = (
            Part(
                row="S0-24",
                says="no weight has a gradient of exactly 0",
                estimate=exact(short.zeros, n=dials.networks, unit="weights"),
                region=at_most(0.0),
            ),
            Part(
                row="S0-24",
                says=f"yet Adam leaves most weights as they are ({dials.dtype}, rate {dials.rate:g})",
                estimate=mean(short.still),
                region=at_least(dials.swallowed),
            ),
            Part(
                row="S0-24",
                says="and the loss falls by next to nothing of what it falls in float32",
                estimate=mean(short.fall / long.fall),
                region=at_most(dials.progress),
            ),
        )
        return Measurement(parts=parts, figure=_figure(run), note=_decay_note())


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """Of networks trained in one format.

    Attributes:
        zeros: Gradients that were exactly 0 at the first step, over all networks.
        still: Share of weights that the first step left as they were, shape (networks,).
        fall: First loss less last loss, shape (networks,).
    """

    zeros: int
    still: Tensor
    fall: Tensor


def _train(dials: Dials, run: LabRun, dtype: torch.dtype) -> _Trained:
    generator = run.torch(0)
    x = torch.randn(dials.samples, dials.inputs, generator=generator)
    y = torch.randn(dials.samples, 1, generator=generator)
    crowd = Crowd(dials.networks, (dials.inputs, dials.width, 1), torch.tanh, generator, init="default")
    # The same numbers for every format: those that the shortest can hold.
    short = [p.detach().to(torch.bfloat16) for p in crowd.parameters()]
    crowd = crowd.to(dtype)
    with torch.no_grad():
        for p, start in zip(crowd.parameters(), short, strict=True):
            p.copy_(start)
    x, y = x.bfloat16().to(dtype), y.bfloat16().to(dtype)
    optimiser = torch.optim.Adam(crowd.parameters(), dials.rate, eps=dials.eps)
    first = _losses(crowd, x, y)
    zeros, still = 0, torch.zeros(0)
    for step in range(dials.steps):
        optimiser.zero_grad()
        torch.autograd.backward((crowd(x) - y).square().mean((1, 2)).sum())
        before = [p.detach().clone() for p in crowd.parameters()]
        optimiser.step()
        if step == 0:
            zeros = sum(
                p.grad.numel() - int(p.grad.count_nonzero()) for p in crowd.parameters() if p.grad is not None
            )
            same = [(p == old).flatten(1) for p, old in zip(crowd.parameters(), before, strict=True)]
            still = torch.cat(same, 1).double().mean(1)
    return _Trained(zeros=zeros, still=still, fall=first - _losses(crowd, x, y))


def _losses(crowd: Crowd, x: Tensor, y: Tensor) -> Tensor:
    """Each network's loss, computed in float64 whatever the weights are stored in."""
    with torch.no_grad():
        h = x.double().expand(len(crowd.weights[0]), -1, -1)
        for number, (weight, bias) in enumerate(zip(crowd.weights, crowd.biases, strict=True)):
            h = (torch.tanh(h) if number else h) @ weight.double().transpose(1, 2) + bias.double()
        return (h - y.double()).square().mean((1, 2))


def _figure(run: LabRun) -> Figure:
    """Share of swallowed updates against their size relative to the weight."""
    sizes = torch.logspace(-9, -1, 65, dtype=torch.float64)
    w = torch.exp2(torch.rand(4000, generator=run.torch(1), dtype=torch.float64) * 4)
    lines: list[Line] = []
    for name, dtype in DTYPES.items():
        stored = w.to(dtype).double()
        lost = [float(((stored * (1 + size)).to(dtype).double() == stored).double().mean()) for size in sizes]
        lines.append(line(name, sizes, lost))
        quarter = torch.finfo(dtype).eps / 4
        lines.append(line(f"{name}: eps / 4 and eps / 2", (quarter, 2 * quarter), (1, 0), dashed=True))
    return Figure(
        title="Updates that rounding swallows",
        x="update relative to the weight",
        y="share of weights that stay as they are",
        lines=tuple(lines),
        log_x=True,
    )


def _decay_note() -> str:
    """What decay does to a weight of 1 in each format, by trying."""
    works = {}
    for name, dtype in DTYPES.items():
        factors = torch.logspace(-1, -10, 91, dtype=torch.float64)
        moved = (torch.ones(1, dtype=dtype) * (1 - factors).to(dtype) != 1) & (factors > 0)
        works[name] = float(factors[moved].min())
    told = ", ".join(f"{least:.1e} in {name}" for name, least in works.items())
    return f"The smallest rate * decay that changes a weight of 1 by decay alone: {told}."
