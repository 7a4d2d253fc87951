"""How long does a saturated unit take to come back, and is a dead ReLU worse?

Claim
-----
A saturated unit learns so slowly that it is effectively stuck. And: a dead ReLU is much
worse than a gradient however small.

Prediction
----------
One unit with output sigma(s), s = w h + b, that the loss pulls back with a constant signal
delta: gradient descent moves s by eta |delta| (|h|^2 + 1) sigma'(s) a step (eta the learning
rate, |h|^2 + 1 because w and b both move). At s = -S the derivative is about e^-S, and the
time to return to 0 is

    t = (e^S - e^-S + 2 S) / (eta |delta| (|h|^2 + 1)),

exponential in S: one more unit of saturation costs e = 2.7 times the steps. A ReLU below 0
has gradient 0 and never moves. But the sigmoid's advantage ends where its derivative rounds
to 0: in float32 below s = -88.7, e^-89 being smaller than any normal number.

Method
------
Units with random inputs h and a bias that puts s at -S, trained by autograd and SGD until
s > 0; the logarithm of the steps is fitted by a line in S, unit by unit. Then the
gradient of sigmoid and ReLU units at a moderate and at an extreme s.

References:
----------
Glorot, Bengio 2010, Understanding the difficulty of training deep feedforward networks
(saturation of sigmoid layers).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import ALWAYS, at_least, at_most, exact, mean, near, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "softsign": lambda s: torch.nn.functional.softsign(s) / 2,
}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    units: int = dial(500, "units at each depth of saturation", quick=200, paper=2000)
    depths: tuple[float, ...] = dial((4.0, 5.0, 6.0, 7.0, 8.0), "saturations S: units begin at s = -S")
    stuck: float = dial(16.0, "a saturation at which units are called stuck")
    budget: int = dial(5000, "steps that one would wait", quick=4000)
    inputs: int = dial(8, "inputs of a unit")
    rate: float = dial(0.5, "learning rate eta")
    extreme: float = dial(90.0, "an extreme saturation, for the comparison with ReLU")
    tolerance: float = dial(0.1, "how far the growth of ln(steps) per unit of S may be from 1")
    activation: str = dial(
        "sigmoid", "sigmoid, or softsign: s / (2 + 2 |s|), of slope 1 / s^2 far out", choices=ACTIVATIONS
    )
    dtype: str = dial("float32", "format of the comparison with ReLU", choices=DTYPES)


class UnstickTime(Experiment[Dials]):
    """Saturated units pulled back by a constant signal."""

    slug = "unstick-time"
    title = "How long does a saturated unit take to come back, and is a dead ReLU worse?"
    topic = Topic.CAUSALITY
    rows = ("S0-11", "S2-3")
    dials = Dials
    perturbations = (
        Perturbation(
            why="softsign saturates as 1 / s^2: the time is a power of S, and nothing is stuck",
            dials={"activation": "softsign"},
            changes=("S0-11",),
        ),
        Perturbation(
            why="float64 still holds e^-90: there a gradient however small is better than none",
            dials={"dtype": "float64"},
            changes=("S2-3",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        depths = (*dials.depths, dials.stuck)
        needed = torch.stack(
            [_steps(dials, depth, run.torch(number)) for number, depth in enumerate(run.track(depths))]
        )
        slopes = _slopes(needed[:-1], dials.depths)
        back = float(dials.depths[-1])
        dtype = DTYPES[dials.dtype]
        sigmoid = ACTIVATIONS[dials.activation]
        pull = {
            "sigmoid": _gradient(sigmoid, -dials.extreme, dtype),
            "ReLU": _gradient(torch.relu, -dials.extreme, dtype),
            "ReLU, moderate": _gradient(torch.relu, -back, dtype),
        }
        returned = int(needed[-2].isfinite().sum())
        parts = (
            Part(
                row="S0-11",
                says="one more unit of saturation multiplies the steps by e",
                estimate=mean(slopes, unit="per unit of s"),
                region=near(1.0, dials.tolerance),
            ),
            Part(
                row="S0-11",
                says=f"at s = -{dials.stuck:g} a unit does not come back within {dials.budget} steps",
                estimate=share(int(needed[-1].isinf().sum()), dials.units),
                region=ALWAYS,
            ),
            Part(
                row="S2-3",
                says=f"at s = -{back:g} a ReLU gets no gradient",
                estimate=exact(pull["ReLU, moderate"]),
                region=at_most(0.0),
            ),
            Part(
                row="S2-3",
                says=f"at s = -{back:g} a {dials.activation} comes back within {dials.budget} steps",
                estimate=share(returned, dials.units),
                region=ALWAYS,
            ),
            Part(
                row="S2-3",
                says=f"at s = -{dials.extreme:g}, in {dials.dtype}, a {dials.activation} still gets gradient",
                estimate=exact(pull["sigmoid"]),
                region=at_least(torch.finfo(torch.float64).tiny),
            ),
        )
        return Measurement(parts=parts, figure=_figure(dials, needed[:-1]))


def _gradient(function: Callable[[Tensor], Tensor], s: float, dtype: torch.dtype) -> float:
    place = torch.full((8,), s, dtype=dtype, requires_grad=True)
    (found,) = torch.autograd.grad(function(place).sum(), place)
    return float(found.double().abs().max())


def _steps(dials: Dials, depth: float, generator: torch.Generator) -> Tensor:
    """Steps to return from s = -depth, times |h|^2 + 1, so that units can be compared; inf for never.

    Args:
        dials: The settings.
        depth: S.
        generator: Of inputs and weights.

    Returns:
        Shape (units,).
    """
    function = ACTIVATIONS[dials.activation]
    h = torch.randn(dials.units, dials.inputs, generator=generator, dtype=torch.float64)
    w = torch.randn(dials.units, dials.inputs, generator=generator, dtype=torch.float64)
    w.div_(math.sqrt(dials.inputs))
    b = -depth - (w * h).sum(1)
    w.requires_grad_()
    b.requires_grad_()
    needed = torch.full((dials.units,), math.inf, dtype=torch.float64)
    for step in range(1, dials.budget + 1):
        # A loss of slope -1 in the output: the signal delta that pulls the unit up.
        by_w, by_b = torch.autograd.grad(-function((w * h).sum(1) + b).sum(), (w, b))
        with torch.no_grad():
            w -= dials.rate * by_w
            b -= dials.rate * by_b
            back = (w * h).sum(1) + b > 0
        needed[back & needed.isinf()] = step
        if bool(back.all()):
            break
    return needed * (h.square().sum(1) + 1)


def _slopes(needed: Tensor, depths: tuple[float, ...]) -> Tensor:
    """Growth of ln(steps) per unit of S, by a line through each unit's points; shape (units,)."""
    x = torch.tensor(depths, dtype=torch.float64)
    x = x - x.mean()
    y = needed.log()
    return (x[:, None] * y).sum(0) / x.square().sum()


def _figure(dials: Dials, needed: Tensor) -> Figure:
    middle = needed.median(1).values * dials.rate
    formula = [math.exp(s) - math.exp(-s) + 2 * s for s in dials.depths]
    return Figure(
        title="Steps to return from s = -S, times eta (|h|^2 + 1)",
        x="saturation S",
        y="steps x eta |delta| (|h|^2 + 1)",
        lines=(
            line(dials.activation, dials.depths, middle),
            line("e^S - e^-S + 2 S", dials.depths, formula, dashed=True),
        ),
        log_y=True,
    )
