"""Do positive initial weights cure dead units?

Claim
-----
Positive initial weights cure dead units.

Prediction
----------
If all weights, biases and inputs are at least 0, so are all sums: no unit can be dead. But then
no ReLU ever cuts anything off: the net is a product of positive matrices, a linear map. By
the theorem of Perron and Frobenius such a product approaches rank 1: whatever the input, the
last layer shows the same direction. With |He| weights (|normal| of variance 2/n, mean
2/sqrt(pi n)) every layer multiplies the size by about 2 sqrt(n / pi): 9.0 at n = 64, that is
9 to the power of the depth.

Method
------
Nets with He weights, and with their absolute values, on digits in [0, 1]: dead units at the
start and after training; the effective rank exp(entropy of the squared singular values,
normalised) of the last hidden layer, and the growth of its size per layer.

References:
----------
Roy, Vetterli 2007, The effective rank. The growth follows from E|w| = sqrt(2/pi) times the
deviation.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.data import Split, digits
from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, grouped_share, mean, near
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import batches
from defib.lab.stacks import Stack, dead, draw, fit


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(16, "networks", quick=8)
    width: int = dial(64, "units of a layer")
    depth: int = dial(8, "hidden layers of the net that is looked at")
    trained_depth: int = dial(1, "hidden layers of the net that is trained")
    samples: int = dial(500, "digits", quick=200)
    centred: bool = dial(False, "whether the inputs are centred")
    positive: bool = dial(True, "whether the weights are made positive")
    rate: float = dial(0.1, "learning rate of SGD")
    momentum: float = dial(0.9, "momentum of SGD")
    batch: int = dial(64, "samples of a batch")
    steps: int = dial(200, "steps of training", quick=100)
    some: float = dial(0.01, "share of units that counts as some")
    distinct: float = dial(2.0, "effective rank from which on features count as distinct")
    tolerance: float = dial(0.5, "error of the predicted growth per layer that counts as none")


class PositiveWeights(Experiment[Dials]):
    """|He| against He."""

    slug = "positive-weights"
    title = "Do positive initial weights cure dead units, and at what price?"
    topic = Topic.DYING_RELU
    rows = ("S4-28",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="two layers of weights of both signs on centred inputs have none of these troubles",
            dials={"positive": False, "centred": True, "depth": 2, "rate": 0.01},
            changes=("S4-28",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        data = digits(centred=dials.centred)
        x = data.x[: dials.samples].double()
        with torch.no_grad():
            net = _stack(dials, run.torch(0), dials.depth, positive=dials.positive)
            sums = net.sums(x, torch.relu)[:-1]
            other = _stack(dials, run.torch(0), dials.depth, positive=not dials.positive)
            compared = other.sums(x, torch.relu)[:-1]
        sizes = torch.stack([torch.relu(s).square().mean((1, 2)).sqrt() for s in sums])
        growth = (sizes[-1] / sizes[0]) ** (1 / (dials.depth - 1))
        born = torch.stack([dead(s).sum(1) for s in sums]).sum(0)
        died = _trained(dials, data, run)
        few = at_most(dials.some)
        return Measurement(
            parts=(
                Part(
                    row="S4-28",
                    says="no unit is dead at the start",
                    estimate=grouped_share(born, torch.full_like(born, len(sums) * dials.width)),
                    region=few,
                ),
                Part(
                    row="S4-28",
                    says=f"nor after training at rate {dials.rate:g}",
                    estimate=grouped_share(died, torch.full_like(died, dials.width * dials.trained_depth)),
                    region=few,
                ),
                Part(
                    row="S4-28",
                    says="and the last hidden layer has distinct features (effective rank)",
                    estimate=mean(_rank(sums[-1])),
                    region=at_least(dials.distinct),
                ),
                Part(
                    row="S4-28",
                    says="and signals keep their size: growth per layer",
                    estimate=mean(growth),
                    region=near(1.0, dials.tolerance),
                ),
            ),
            figure=_figure(sums, compared, dials),
            note=f"Predicted growth per layer of |He| weights: {2 * math.sqrt(dials.width / math.pi):.2f}.",
        )


def _stack(dials: Dials, generator: torch.Generator, depth: int, *, positive: bool) -> Stack:
    """Fresh networks on digits."""
    stack = draw(dials.networks, (64, *[dials.width] * depth, 10), generator, dtype=torch.float64)
    if positive:
        with torch.no_grad():
            for weight in stack.weights:
                weight.abs_()
    return stack


def _rank(sums: Tensor) -> Tensor:
    """Effective rank of what a layer puts out, (R, N, H) to (R,)."""
    values = torch.linalg.svdvals(torch.relu(sums)).square()
    p = values / values.sum(1, keepdim=True)
    return torch.exp(-torch.xlogy(p, p).sum(1))


def _trained(dials: Dials, data: Split, run: LabRun) -> Tensor:
    """Dead units of each network after training, shape (R,)."""
    generator = run.torch(1)
    stack = _stack(dials, generator, dials.trained_depth, positive=dials.positive)
    x = data.x.double()
    optimiser = torch.optim.SGD(stack.parameters(), lr=dials.rate, momentum=dials.momentum)
    order = batches(len(x), dials.batch, dials.steps, generator)
    fit(stack, optimiser, x, data.y, run.track(list(order)), torch.relu)
    with torch.no_grad():
        return torch.stack([dead(s).sum(1) for s in stack.sums(x, torch.relu)[:-1]]).sum(0)


def _figure(sums: list[Tensor], compared: list[Tensor], dials: Dials) -> Figure:
    names = ("positive weights", "weights of both signs")
    lines = []
    for name, layers in zip(names if dials.positive else names[::-1], (sums, compared), strict=True):
        ranks = [mean(_rank(s)) for s in layers]
        lines.append(
            line(
                name,
                range(1, len(layers) + 1),
                [r.value for r in ranks],
                low=[r.low for r in ranks],
                high=[r.high for r in ranks],
            )
        )
    lines.append(line("rank 1", (1, dials.depth), (1, 1), dashed=True))
    return Figure(
        title="How many directions a fresh net's layers show",
        x="hidden layer",
        y="effective rank",
        log_y=True,
        lines=tuple(lines),
    )
