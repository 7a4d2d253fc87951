"""Do products of sigmoid derivatives and ordinary weights vanish?

Claim
-----
Weights are usually drawn with mean 0 and deviation 1, so they lie between -1 and 1. The
derivative of a weight in an early layer is a product of factors w S'(s), one a layer, each
small because S' is at most 1/4. A product of four small numbers is very small; the deeper
the net, the smaller; composing many makes gradients vanish numerically.

Prediction
----------
For w ~ N(0, 1), |w| < 1 with probability 0.683. At its best, S' = 1/4, a factor has E log10
|w S'| = log10(1/4) - (gamma + ln 2) / (2 ln 10) = -0.878 decades (gamma is Euler's
constant): a factor 0.13 a layer, and |w S'| > 1 needs |w| > 4, 6 in 100,000. What is drawn
usually today is something else: torch's Linear has deviation 1 / (3 n)^(1/2), n inputs.

Method
------
Many chains of single sigmoid units with N(0, 1) weights in 64 bits, the derivative of the
last unit's value with respect to the first one's input; its mean logarithm at each depth,
products of four factors at their best, and the share of deep chains' derivatives below the
smallest number of 32 bits.

References:
----------
Rohan Kapur 2016, Rohan #4: The vanishing gradient problem.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, exact, mean, median, near, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import ACTIVATIONS, fill


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    chains: int = dial(20_000, "random chains", quick=4000)
    depth: int = dial(60, "units of the longest chain")
    deviation: float = dial(1.0, "deviation of the weights")
    activation: str = dial("sigmoid", "activation of every unit")
    small: float = dial(0.01, "a product of four factors below this counts as very small")
    inputs: int = dial(256, "inputs of the torch.nn.Linear whose weights are looked at")
    tolerance: float = dial(0.1, "by how much, as a ratio, a deviation may differ from 1 to be called 1")
    miss: float = dial(0.05, "decades by which the best factor's mean may miss its formula")


class SigmoidChain(Experiment[Dials]):
    """Derivatives through chains of single sigmoid units."""

    slug = "sigmoid-chain"
    title = "How fast does a gradient shrink through sigmoid units with N(0, 1) weights?"
    topic = Topic.GRADIENTS
    rows = ("S2-4", "S4-10", "S4-11", "S4-12", "S4-14")
    dials = Dials
    perturbations = (
        Perturbation(
            why="a linear unit's factor is its weight alone, and large weights make products grow",
            dials={"activation": "linear", "deviation": 6.0},
            changes=("S2-4", "S4-10", "S4-11", "S4-12", "S4-14"),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        draw = run.numpy(0).normal(0, dials.deviation, (dials.chains, dials.depth))
        decades = _decades(dials, torch.from_numpy(draw))
        steps = decades[:, -1] / dials.depth
        best = np.log10(np.abs(draw)) + math.log10(_top(dials))
        four = 10 ** best[:, :4].sum(1)
        lost = decades[:, -1] < math.log10(float(np.finfo(np.float32).smallest_subnormal) / 2)
        usual_weight = torch.empty(dials.inputs, dials.inputs)
        fill(usual_weight, "default", run.torch(1))
        usual = usual_weight.std().item()
        depths = np.arange(1, dials.depth + 1)
        normal = (np.euler_gamma + math.log(2)) / (2 * math.log(10))
        theory = math.log10(_top(dials) * dials.deviation) - normal
        half = dials.depth // 2
        return Measurement(
            parts=(
                Part(
                    row="S4-11",
                    says="more than half of the weights lie between -1 and 1",
                    estimate=share(int((np.abs(draw) < 1).sum()), draw.size),
                    region=at_least(0.5),
                ),
                Part(
                    row="S4-11",
                    says="the usual way of drawing (torch.nn.Linear's) has deviation 1",
                    estimate=exact(usual, n=dials.inputs**2),
                    region=near(1.0, dials.tolerance),
                ),
                Part(
                    row="S4-10",
                    says="products of the factors shrink: mean change a layer",
                    estimate=mean(steps, unit="decades a layer"),
                    region=at_most(0.0),
                ),
                Part(
                    row="S4-12",
                    says="a product of four factors, each at its best, is very small in the median",
                    estimate=median(four),
                    region=at_most(dials.small),
                ),
                Part(
                    row="S4-12",
                    says="a factor at its best loses 0.878 decades in the mean",
                    estimate=mean(best.mean(1), unit="decades"),
                    region=near(math.log10(0.25) - normal, dials.miss),
                ),
                Part(
                    row="S4-14",
                    says="deeper is worse: change over the second half of the layers",
                    estimate=mean(decades[:, -1] - decades[:, half - 1], unit="decades"),
                    region=at_most(0.0),
                ),
                Part(
                    row="S2-4",
                    says="through the longest chain most derivatives are 0 in 32 bits",
                    estimate=share(int(lost.sum()), dials.chains),
                    region=at_least(0.5),
                ),
            ),
            figure=Figure(
                title="Derivative through a chain of single units",
                x="units",
                y="log10 |derivative|",
                lines=(
                    line("median", depths, np.median(decades, 0)),
                    line("S' = 1/4 everywhere", depths, depths * theory, dashed=True),
                    line("smallest number of 32 bits", (1, dials.depth), (-45.2, -45.2), dashed=True),
                ),
            ),
            note=f"torch.nn.Linear({dials.inputs}, {dials.inputs}) draws weights of deviation {usual:.3f}.",
        )


def _top(dials: Dials) -> float:
    """The largest derivative of the activation, found on a grid."""
    x = torch.linspace(-10, 10, 20_001, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(ACTIVATIONS[dials.activation](x).sum(), x)
    return slopes.max().item()


def _decades(dials: Dials, weights: torch.Tensor) -> np.ndarray:
    """log10 of |derivative| through the first 1 ... L units, shape (chains, depth); logs never underflow."""
    f = ACTIVATIONS[dials.activation]
    h = torch.ones(len(weights), dtype=torch.float64)
    total = torch.zeros_like(h)
    found = []
    for w in weights.T:
        s = (w * h).requires_grad_()
        (slope,) = torch.autograd.grad(f(s).sum(), s)
        h = f(s).detach()
        total = total + (w * slope).abs().clamp_min(1e-300).log10()
        found.append(total)
    return torch.stack(found, 1).numpy()
