"""Does a stationary output layer with full-rank features mean the global minimum?

Claim
-----
If the output layer is stationary and its features have full rank, every gradient is zero and
the loss is at its global minimum.

Prediction
----------
n samples, features H of the last hidden layer with a column of ones appended, deltas D (one
row a sample). Stationary means D^T [H, 1] = 0. If [H, 1] has rank n its rows are independent,
so D = 0: every sample is at the minimum of its own loss, and a convex loss has nothing lower.
All gradients below are products with D, hence 0. The rank can be n only if the layer has at
least n - 1 units. With fewer, D may be anything in the null space: the loss stays above
its minimum, and the layers below have gradient.

Method
------
Random tanh nets and random targets, output layer solved by least squares (float64). The
share of nets with rank n whose loss and hidden gradients are zero to rounding; the smallest
hidden gradient of nets with more samples than the layer can tell apart. Gradients are
relative to those under a random output layer, the loss to the variance of the targets.

References:
----------
Poston, Lee, Choie, Kwon 1991, Local minima and back propagation; Yu, Chen 1995, On the local
minima free condition of backpropagation learning; Nguyen, Hein 2017, The loss surface of deep
and wide neural networks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import ALWAYS, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(500, "random nets", quick=200)
    inputs: int = dial(4, "inputs")
    width: int = dial(9, "hidden tanh units of each of two layers")
    enough: int = dial(8, "samples of the nets with full rank")
    clones: int = dial(1, "equal copies of each unit: the width counts copies, the rank does not")
    loss: float = dial(1e-16, "loss, relative to the targets' variance, that counts as zero")
    gradient: float = dial(1e-6, "hidden gradient, relative to a random output layer's, that counts as zero")


class RankTheorem(Experiment[Dials]):
    """Random nets whose output layer is solved exactly."""

    slug = "rank-theorem"
    title = "Does a stationary output layer with full-rank features mean the global minimum?"
    topic = Topic.STATIONARY
    rows = ("S3-8",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="cloned units keep the width and lose the rank",
            dials={"clones": 3},
            changes=("S3-8",),
        ),
        Perturbation(
            why="with more samples than units and bias the rank cannot be full",
            dials={"enough": 16},
            changes=("S3-8",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        loss, gradient = _solved(dials, dials.enough, run.torch(0))
        parts = (
            Part(
                row="S3-8",
                says=f"{dials.enough} samples, {dials.width} units: the loss is zero",
                estimate=share(int((loss <= dials.loss).sum()), dials.networks),
                region=ALWAYS,
            ),
            Part(
                row="S3-8",
                says="and so are the gradients of both hidden layers",
                estimate=share(int((gradient <= dials.gradient).sum()), dials.networks),
                region=ALWAYS,
            ),
        )
        counts = list(range(2, 2 * dials.width))
        found = [_solved(dials, n, run.torch(n)) for n in run.track(counts)]
        floor = 1e-33
        return Measurement(
            parts=parts,
            figure=Figure(
                title=f"Stationary output layer on {dials.width} features and a bias (median net)",
                x="samples",
                y="relative size",
                lines=(
                    line("loss", counts, [max(float(loss.median()), floor) for loss, _ in found]),
                    line("hidden gradient", counts, [max(float(g.median()), floor) for _, g in found]),
                    line("width + 1 samples", (dials.width + 1, dials.width + 1), (floor, 1), dashed=True),
                ),
                log_y=True,
            ),
        )


def _solved(dials: Dials, samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Loss and hidden gradient of nets with a solved output layer, each of shape (networks,)."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(dials.networks, *shape, generator=generator, dtype=torch.float64)

    x, y = draw(samples, dials.inputs), draw(samples, 1)
    first = draw(dials.inputs, dials.width)
    second = draw(dials.width, dials.width // dials.clones).repeat(1, 1, dials.clones)
    random = draw(second.shape[2] + 1, 1)
    features = _features(x, first, second)
    solution = torch.linalg.pinv(features) @ y
    loss = (features @ solution - y).square().mean((1, 2)) / y.square().mean((1, 2))
    here, there = (_gradient(x, y, first, second, output) for output in (solution, random))
    return loss, here / there


def _features(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Outputs of the last hidden layer and a column of ones."""
    h = torch.tanh(torch.tanh(x @ first) @ second)
    return torch.cat([h, torch.ones_like(h[..., :1])], 2)


def _gradient(x: Tensor, y: Tensor, first: Tensor, second: Tensor, output: Tensor) -> Tensor:
    """Norm of the gradient of both hidden layers, shape (networks,)."""
    weights = [w.clone().requires_grad_() for w in (first, second)]
    loss = (_features(x, *weights) @ output - y).square().mean((1, 2)).sum()
    found = torch.autograd.grad(loss, weights)
    norms: Tensor = torch.cat([g.flatten(1) for g in found], 1).norm(dim=1)
    return norms
