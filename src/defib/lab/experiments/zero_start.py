"""From all weights zero, does any direction lead down, and does curvature show it?

Claim
-----
Where the gradient is zero no direction seems to be downhill. And: from two terms of the
Taylor series to three: curvature shows the way out of every saddle.

Prediction
----------
Weights all 0, output bias at the mean of the targets: the gradient is exactly 0, and to first
order no direction leads down. With one hidden tanh layer the loss has a term of second order,
-2 mean(y' x) v w for the product of an output weight v and an input weight w (y' is y less
its mean): negative curvature, which three terms of the series show. With two hidden layers
the first such term is of third order, a product of three weights: the Hessian has no negative
eigenvalue, yet the loss falls along t v for about half of all directions v, at +t or at -t:
then t^3 changes its sign. Four terms are needed to see it.

Method
------
Random data sets. The gradient; the smallest eigenvalue of the Hessian; and the largest fall
of the loss along many random directions at many distances, both ways, in float64.

References:
----------
Nesterov, Polyak 2006, Cubic regularization of Newton method; Anandkumar, Ge 2016, Efficient
approaches for escaping higher order saddle points.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, vmap

from defib.lab.dials import dial
from defib.lab.estimate import ALWAYS, NEVER, at_most, exact, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.flat import FlatNet, hessian


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    data_sets: int = dial(300, "random data sets", quick=200)
    samples: int = dial(20, "samples of each")
    inputs: int = dial(3, "inputs")
    width: int = dial(4, "units of a hidden layer")
    deep: int = dial(2, "hidden layers of the deeper net")
    directions: int = dial(200, "random directions tried at each place", quick=30)
    place: str = dial(
        "zero",
        "where: all weights zero, or a minimum: the random weights that made the targets",
        choices=("zero", "minimum"),
    )
    tiny: float = dial(1e-12, "a gradient, curvature or fall of the loss below this is rounding")


class ZeroStart(Experiment[Dials]):
    """Gradient, curvature and falls of the loss where all weights are zero."""

    slug = "zero-start"
    title = "From all weights zero, does any direction lead down, and does curvature show it?"
    topic = Topic.STATIONARY
    rows = ("S0-26", "S0-38")
    dials = Dials
    perturbations = (
        Perturbation(
            why="at the weights that made the targets the loss is 0: nothing is below, and nothing to show",
            dials={"place": "minimum"},
            changes=("S0-26", "S0-38"),
        ),
        Perturbation(
            why="with one hidden layer in both nets the way down is of second order in both",
            dials={"deep": 1},
            changes=("S0-38",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        found = [
            ("one hidden layer", _look(dials, 1, run, 0)),
            (f"hidden layers: {dials.deep}", _look(dials, dials.deep, run, 1)),
        ]
        parts = []
        for name, here in found:
            parts.append(
                Part(
                    row="S0-26",
                    says=f"{name}: to first order no direction is downhill",
                    estimate=exact(float(here.gradient.max()), n=dials.data_sets),
                    region=at_most(dials.tiny),
                )
            )
            parts.append(
                Part(
                    row="S0-26",
                    says=f"{name}: no random direction is downhill at any distance",
                    estimate=share(int((here.fall > dials.tiny).sum()), dials.data_sets),
                    region=NEVER,
                )
            )
            parts.append(
                Part(
                    row="S0-38",
                    says=f"{name}: the Hessian has a negative eigenvalue",
                    estimate=share(int((here.lowest < -dials.tiny).sum()), dials.data_sets),
                    region=ALWAYS,
                )
            )
        return Measurement(parts=tuple(parts), figure=_figure(found))


DISTANCES = torch.logspace(-2, 0.3, 12, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """What is seen at one place, for every data set.

    Attributes:
        gradient: Norm, shape (M,).
        lowest: Smallest eigenvalue of the Hessian, shape (M,).
        fall: Largest fall of the loss over directions and distances, shape (M,).
        falls: Largest fall at each distance, mean over data sets, shape (T,).
    """

    gradient: Tensor
    lowest: Tensor
    fall: Tensor
    falls: Tensor


def _look(dials: Dials, layers: int, run: LabRun, number: int) -> _Place:
    net = FlatNet(sizes=(dials.inputs, *(dials.width,) * layers, 1), activation=torch.tanh)
    generator = run.torch(number)
    shape = (dials.data_sets, dials.samples)
    x = torch.randn(*shape, dials.inputs, generator=generator, dtype=torch.float64)
    slope = torch.randn(dials.data_sets, dials.inputs, 1, generator=generator, dtype=torch.float64)
    y = (x @ slope)[..., 0] + torch.randn(shape, generator=generator, dtype=torch.float64)
    theta = torch.zeros(dials.data_sets, net.count, dtype=torch.float64)
    theta[:, -1] = y.mean(1)
    if dials.place == "minimum":
        theta = net.start(dials.data_sets, generator, bias=0.5)
        y = vmap(net)(theta, x)[..., 0]

    def loss(one: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        return (net(one, inputs)[:, 0] - targets).square().mean()

    v = torch.randn(dials.directions, net.count, generator=generator, dtype=torch.float64)
    v = v / v.norm(dim=1, keepdim=True) * net.count**0.5
    here = vmap(loss)(theta, x, y)
    falls = []
    for t in (*DISTANCES, *-DISTANCES):
        along = vmap(vmap(loss, (0, None, None)), (0, 0, 0))(theta[:, None] + t * v, x, y)
        falls.append(here - along.amin(1))
    at = torch.stack(falls).reshape(2, len(DISTANCES), -1).amax(0)
    gradients: Tensor = vmap(grad(loss))(theta, x, y)
    return _Place(
        gradient=gradients.norm(dim=1),
        lowest=torch.linalg.eigvalsh(vmap(hessian(loss))(theta, x, y))[:, 0],
        fall=at.amax(0),
        falls=at.mean(1),
    )


def _figure(found: list[tuple[str, _Place]]) -> Figure:
    lines = [line(name, DISTANCES, here.falls.clamp(min=1e-16)) for name, here in found]
    for power, (_name, here) in zip((2, 3), found, strict=True):
        start = max(float(here.falls[0]), 1e-16)
        steps = DISTANCES[:7]
        lines.append(line(f"t^{power}", steps, start * (steps / steps[0]) ** power, dashed=True))
    return Figure(
        title="Largest fall of the loss among random directions, from zero weights",
        x="distance t",
        y="fall of the loss (mean over data sets)",
        lines=tuple(lines),
        log_x=True,
        log_y=True,
    )
