"""Do N(0, 1) weights make sigmoid nets vanish at every width?

Claim
-----
"Even if" weights are larger than usual, the derivative of a sigmoid is at most 1/4, so the
gradient "will most likely still" vanish.

Prediction
----------
It depends on the width n. A layer's backward pass multiplies a squared norm by chi = n w^2
E[S'(s)^2] where w is the weights' deviation: the sum over n units makes up for the small
derivative. With w = 1 the pre-activations have variance about n E[S^2], so most units
saturate, but E[S'^2] falls only like n^(-1/2) and chi grows like n^(1/2). The gain
chi^(1/2) crosses 1 near a width of 100: wider nets explode.

Method
------
Sigmoid nets of several widths with N(0, 1) weights, 64 bits; a random backward signal
through several layers; mean decades a layer, against the formula.

References:
----------
Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep information propagation.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from defib.lab.dials import dial
from defib.lab.estimate import at_most, mean, near
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.gauss import expect, fixed_variance, slope_of
from defib.lab.nets import ACTIVATIONS


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    widths: tuple[int, ...] = dial(
        (1, 4, 16, 64, 128, 256, 1024), "units of a layer, ascending", quick=(1, 4, 16, 64, 128, 512)
    )
    depth: int = dial(12, "layers")
    nets: int = dial(24, "networks of each width", quick=8)
    deviation: float = dial(1.0, "deviation of the weights")
    shrink: bool = dial(False, "whether it is divided by the square root of the width")
    activation: str = dial("sigmoid", "activation")
    miss: float = dial(0.05, "decades a layer by which the widest net's gain may miss the formula")


class SigmoidWidth(Experiment[Dials]):
    """The gain of a layer of N(0, 1) weights against its width."""

    slug = "sigmoid-width"
    title = "From which width do sigmoid nets with N(0, 1) weights explode?"
    topic = Topic.GRADIENTS
    rows = ("S4-13",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="weights that shrink with the width leave the sum no force: every width vanishes",
            dials={"shrink": True},
            changes=("S4-13",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        gains = {
            width: np.array([_gain(dials, width, run.torch(width, k)) for k in range(dials.nets)])
            for width in run.track(dials.widths)
        }
        theory = {width: _theory(dials, width) for width in dials.widths}
        means = [mean(gains[width], unit="decades a layer") for width in dials.widths]
        narrow, wide = dials.widths[0], dials.widths[-1]
        crossing = _crossing(dials)
        return Measurement(
            parts=(
                Part(
                    row="S4-13",
                    says=f"the gradient still vanishes at width {narrow}",
                    estimate=means[0],
                    region=at_most(0.0),
                ),
                Part(
                    row="S4-13",
                    says=f"the gradient still vanishes at width {wide}",
                    estimate=means[-1],
                    region=at_most(0.0),
                ),
                Part(
                    row="S4-13",
                    says=f"at width {wide} the change a layer is the formula's",
                    estimate=means[-1],
                    region=near(theory[wide], dials.miss),
                ),
            ),
            figure=Figure(
                title="Backward gain of a layer",
                x="width",
                y="decades a layer",
                lines=(
                    line(
                        "measured",
                        dials.widths,
                        [e.value for e in means],
                        low=[e.low for e in means],
                        high=[e.high for e in means],
                    ),
                    line("formula for wide nets", dials.widths, theory.values(), dashed=True),
                    line("level", (narrow, wide), (0, 0), dashed=True),
                ),
                log_x=True,
            ),
            note=f"By the formula the gain passes 1 at a width of {crossing:.0f}.",
        )


_MOST = 2.0**20
"""Where the search for a width gives up."""


def _deviation(dials: Dials, width: float) -> float:
    return dials.deviation / math.sqrt(width) if dials.shrink else dials.deviation


def _theory(dials: Dials, width: float) -> float:
    """Decades a layer in a wide net."""
    f = ACTIVATIONS[dials.activation]
    variance = width * _deviation(dials, width) ** 2
    q = fixed_variance(f, variance, 0.0)
    return 0.5 * math.log10(variance * expect(lambda s: slope_of(f)(s).square(), q))


def _crossing(dials: Dials) -> float:
    """The smallest width whose gain by the formula is above 1."""
    low, high = 1.0, _MOST
    if _theory(dials, high) < 0:
        return high
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _theory(dials, middle) < 0 else (low, middle)
    return high


def _gain(dials: Dials, width: int, generator: torch.Generator) -> float:
    """Decades a layer that one net's backward pass changes a random signal's norm by."""
    f = ACTIVATIONS[dials.activation]
    scale = _deviation(dials, width)
    h = start = torch.randn(width, generator=generator, dtype=torch.float64).requires_grad_()
    for _ in range(dials.depth):
        h = f(torch.randn(width, width, generator=generator, dtype=torch.float64) * scale @ h)
    v = torch.randn(width, generator=generator, dtype=torch.float64)
    (found,) = torch.autograd.grad(h, start, v)
    return (torch.log10(found.norm() / v.norm()) / dials.depth).item()
