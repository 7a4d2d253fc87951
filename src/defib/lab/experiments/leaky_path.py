"""Does a leaky slope keep units alive, and does its small constant vanish again?

Claim
-----
Leaky ReLU is max(e x, x) with a small e such as 0.01. Leaky ReLUs "do not die". But the
small constant may make gradients vanish again.

Prediction
----------
max(e x, x) is x for x > 0 and e x below, as long as e <= 1. A unit that is negative on
every sample has gradients e times those of a linear unit: small, not 0. A path through L
units that are all negative multiplies a gradient by e^L; over random signs the squared norm
changes by the mean of 1 and e^2, so by ((1 + e^2) / 2)^(1/2) a layer with weights that keep
norms.

Method
------
(1) The formula on a grid. (2) Nets whose first layer's biases are lowered until all its
units are negative on all samples: the smallest gradient norm of a unit. (3) A chain of L
units, each with weight 1, with a negative input: autograd's derivative, in decades. (4)
Wide chains with random orthogonal weights: the mean change in decades a layer.

References:
----------
Maas, Hannun, Ng 2013, Rectifier nonlinearities improve neural network acoustic models.
"""

import math
from dataclasses import dataclass

import torch

from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, exact, mean, near
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import linears, mlp, relu


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    slope: float = dial(0.01, "e, the slope for negative inputs")
    depth: int = dial(20, "L, layers of the chains")
    width: int = dial(128, "units of a layer of the wide chains")
    nets: int = dial(40, "random networks", quick=20)
    samples: int = dial(128, "samples of the data set")
    margin: float = dial(0.5, "how far below 0 the largest pre-activation of a negative unit is put")
    vanished: float = dial(3.0, "decades that a gradient must lose to be called vanished")
    tolerance: float = dial(0.02, "decades a layer by which a measured gain may miss its formula")


class LeakyPath(Experiment[Dials]):
    """What passes through units that are negative."""

    slug = "leaky-path"
    title = "Do leaky units stay alive, and what is left of a gradient after many of them?"
    topic = Topic.ACTIVATIONS
    rows = ("S4-30", "S4-31", "S4-32")
    dials = Dials
    perturbations = (
        Perturbation(why="slope 0 is ReLU: units die", dials={"slope": 0.0}, changes=("S4-31",)),
        Perturbation(
            why="above slope 1 the maximum of e x and x is the other line",
            dials={"slope": 1.5},
            changes=("S4-30", "S4-32"),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        f = relu(dials.slope)
        x = torch.linspace(-5, 5, 1001, dtype=torch.float64)
        path = _chain(dials)
        wide = torch.stack([_wide(dials, run.torch(1, k)) for k in run.track(range(dials.nets))])
        gains = (wide[:, -1] / dials.depth).numpy()
        predicted = 0.5 * math.log10((1 + dials.slope**2) / 2)
        depths = range(1, dials.depth + 1)
        return Measurement(
            parts=(
                Part(
                    row="S4-30",
                    says="leaky ReLU is max(e x, x): largest difference",
                    estimate=exact((f(x) - torch.maximum(dials.slope * x, x)).abs().max().item(), n=len(x)),
                    region=at_most(0.0),
                ),
                Part(
                    row="S4-31",
                    says="a unit that is negative on all samples still gets gradient: smallest norm",
                    estimate=exact(min(_smallest(dials, run.torch(0, k)) for k in range(dials.nets))),
                    region=at_least(math.ulp(0.0)),
                ),
                Part(
                    row="S4-32",
                    says="along a path of negative units the gradient vanishes again: decades lost",
                    estimate=exact(-path[-1], unit="decades"),
                    region=at_least(dials.vanished),
                ),
                Part(
                    row="S4-32",
                    says="and over units of both signs it shrinks by ((1 + e^2) / 2)^(1/2) a layer",
                    estimate=mean(gains, unit="decades a layer"),
                    region=near(predicted, dials.tolerance),
                ),
            ),
            figure=Figure(
                title=f"What is left of a gradient (e = {dials.slope:g})",
                x="layers passed",
                y="decades",
                lines=(
                    line("all units negative", depths, path),
                    line("e^L", depths, [n * math.log10(dials.slope or 1e-30) for n in depths], dashed=True),
                    line("random signs", depths, wide.mean(0)),
                    line("((1 + e^2) / 2)^(L/2)", depths, [n * predicted for n in depths], dashed=True),
                ),
            ),
        )


def _chain(dials: Dials) -> list[float]:
    """log10 of the derivative through 1 ... L negative units, weights 1."""
    decades = []
    for depth in range(1, dials.depth + 1):
        h = start = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
        for _ in range(depth):
            h = relu(dials.slope)(h)
        (found,) = torch.autograd.grad(h, start)
        decades.append(math.log10(max(found.item(), 1e-300)))
    return decades


def _wide(dials: Dials, generator: torch.Generator) -> torch.Tensor:
    """log10 of the change of a backward signal's norm through the last 1 ... L layers."""
    n = dials.width
    weights = [
        torch.nn.init.orthogonal_(torch.empty(n, n, dtype=torch.float64), generator=generator)
        for _ in range(dials.depth)
    ]
    signs = torch.randn(dials.depth, n, generator=generator, dtype=torch.float64) > 0
    v = torch.randn(n, generator=generator, dtype=torch.float64)
    start, found = v.norm(), []
    for weight, on in zip(weights, signs, strict=True):
        v = weight.T @ (v * torch.where(on, 1.0, dials.slope))
        found.append(torch.log10(v.norm() / start))
    return torch.stack(found)


def _smallest(dials: Dials, generator: torch.Generator) -> float:
    """The smallest gradient norm of a first layer whose units are negative on all samples."""
    x = torch.randn(dials.samples, 16, generator=generator)
    y = torch.randn(dials.samples, 1, generator=generator)
    net = mlp((16, 32, 1), relu(dials.slope), generator)
    hidden = linears(net)[0]
    with torch.no_grad():
        hidden.bias.sub_(hidden(x).amax(0) + dials.margin)
    torch.autograd.backward(torch.nn.functional.mse_loss(net(x), y))
    assert hidden.weight.grad is not None
    return float(hidden.weight.grad.norm(dim=1).min())
