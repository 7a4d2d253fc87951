"""Is the gradient of a sigmoid ever exactly zero?

Claim
-----
The gradient of a sigmoid is never zero, only arbitrarily low.

Prediction
----------
On paper sigma'(s) = sigma(s) (1 - sigma(s)) > 0 for every s. A machine keeps the output
y = sigma(s) and computes y (1 - y). On the positive side that is 0 as soon as y rounds to
1. If the format computes sigma itself (float32, float64), 1 + e^-s rounds to 1 when
e^-s < eps / 2: from s = ln(2 / eps) on, where eps is the distance from 1 to the next number.
The half formats compute in float32 and round the result, and numbers below 1 lie twice as
close: from s = ln(4 / eps) on. That is 8.3 (float16), 6.2 (bfloat16), 16.6 (float32) and
36.7 (float64). On the negative side y itself must underflow, much later. For tanh, 1 - y^2
is 0 from ln(8 / eps) / 2 on.

Method
------
Every pre-activation s on a grid, one backward pass of autograd per format, the share of
places where the derivative that comes back is exactly 0. No network and no chance. The
figure gives, for each activation and format, the smallest |s| from which on every derivative
is 0, on the side where that happens first, and the predictions for sigmoid and tanh.

References:
----------
Goldberg 1991, What every computer scientist should know about floating-point arithmetic.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import at_most, exact
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, bars, line
from defib.lab.nets import ACTIVATIONS

DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
SHOWN = ("sigmoid", "tanh", "gelu", "silu", "elu", "softplus")


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    activation: str = dial(
        "sigmoid", "activation that the claim is tried on", choices=(*ACTIVATIONS, "softsign")
    )
    limit: float = dial(800.0, "largest |s| tried")
    spacing: float = dial(1 / 64, "distance of the grid's places", quick=1 / 16)


class RoundedDerivatives(Experiment[Dials]):
    """Autograd's derivative of an activation over a grid, in four formats."""

    slug = "rounded-derivatives"
    title = "Is the gradient of a sigmoid ever exactly zero?"
    topic = Topic.NUMERICS
    rows = ("S0-10",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="softsign's derivative falls as 1 / s^2: nothing rounds to 0 at |s| <= 100",
            dials={"activation": "softsign", "limit": 100.0},
            changes=("S0-10",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        grid = torch.arange(-dials.limit, dials.limit + dials.spacing, dials.spacing, dtype=torch.float64)
        parts = []
        for name, dtype in DTYPES.items():
            zero = _derivative(_function(dials.activation), grid, dtype) == 0
            parts.append(
                Part(
                    row="S0-10",
                    says=f"in {name} the derivative of {dials.activation} is 0 at no |s| <= {dials.limit:g}",
                    estimate=exact(float(zero.double().mean()), n=len(grid)),
                    region=at_most(0.0),
                )
            )
        return Measurement(parts=tuple(parts), figure=_figure(grid, run))


def _function(name: str) -> Callable[[Tensor], Tensor]:
    return torch.nn.functional.softsign if name == "softsign" else ACTIVATIONS[name]


def _derivative(function: Callable[[Tensor], Tensor], grid: Tensor, dtype: torch.dtype) -> Tensor:
    """What autograd says at each place, as float64."""
    s = grid.to(dtype, copy=True).requires_grad_()
    (found,) = torch.autograd.grad(function(s).sum(), s)
    return found.double()


def _first_zero(zero: Tensor, grid: Tensor) -> float:
    """The smallest |s| from which on, on its side, all is 0; nan if neither side has such a place."""
    found = []
    for side in (grid > 0, grid < 0):
        order = grid[side].abs().argsort(descending=True)
        all_beyond = zero[side][order].cummin(0).values
        if bool(all_beyond.any()):
            found.append(float(grid[side].abs()[order][all_beyond].min()))
    return min(found, default=math.nan)


def _figure(grid: Tensor, run: LabRun) -> Figure:
    lines = []
    for name, dtype in run.track(DTYPES.items()):
        zeros = [_derivative(_function(shown), grid, dtype) == 0 for shown in SHOWN]
        lines.append(bars(name, [_first_zero(zero, grid) for zero in zeros]))
        eps = torch.finfo(dtype).eps
        wide = torch.finfo(dtype).bits >= 32
        formula = (math.log((2 if wide else 4) / eps), math.log(8 / eps) / 2)
        lines.append(line(f"formula, {name}", range(2), formula, dashed=True))
    return Figure(
        title="From where on every derivative is exactly 0",
        x="activation",
        y="smallest |s| (the side where it comes first)",
        lines=tuple(lines),
        kind=Kind.BAR,
        labels=SHOWN,
        log_y=True,
    )
