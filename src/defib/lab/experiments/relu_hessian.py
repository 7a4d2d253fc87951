"""At a saddle of a ReLU net, is some coordinate at a maximum?

Claim
-----
A true minimum needs every one of N coordinates to be at a minimum: so one looks along the
coordinates, and at a saddle finds some that curve up and some that curve down. And: with the
Hessian, zeros across the Jacobian do not block learning.

Prediction
----------
Fix all parameters of a ReLU net but one weight, and stay within a linear region (no unit
changes its sign): every path from input to output contains that weight at most once, so the
outputs are linear in it, and a convex loss of something linear is convex. Every diagonal
entry of the Hessian is >= 0 at every point where it exists, at saddles too: negative
curvature lies across layers only and no coordinate shows it. The same holds for each layer's
own block. In tanh nets single coordinates may curve down. A unit that is negative on all
samples contributes nothing to the outputs in its region: its rows of the Hessian are 0, and
a method that looks at curvature has nothing to divide by.

Method
------
Random nets at random points, squared loss, float64, full Hessians by automatic
differentiation. Of the points where the Hessian has a negative eigenvalue: the share of
coordinates with negative curvature. Then one unit's bias is lowered until it is negative on all
samples, and the largest entry of its rows is read off.

References:
----------
Laurent, von Brecht 2018, The multilinear structure of ReLU networks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap

from defib.lab.dials import dial
from defib.lab.estimate import at_least, exact, mean
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.flat import FlatNet, hessian
from defib.lab.nets import ACTIVATIONS


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(200, "random nets", quick=40, paper=2000)
    samples: int = dial(20, "samples of each data set")
    width: int = dial(5, "units of each of two hidden layers")
    inputs: int = dial(3, "inputs")
    activation: str = dial("relu", "activation", choices=ACTIVATIONS)
    sunk: float = dial(0.1, "how far below 0 the sunk unit's largest pre-activation is put")
    negative: float = dial(1e-9, "a curvature below minus this counts as negative")
    present: float = dial(0.05, "least share of coordinates curving down that shows at a saddle")


class ReluHessian(Experiment[Dials]):
    """Diagonals and dead rows of Hessians."""

    slug = "relu-hessian"
    title = "At a saddle of a ReLU net, is some coordinate at a maximum?"
    topic = Topic.STATIONARY
    rows = ("S0-16", "S0-33")
    dials = Dials
    perturbations = (
        Perturbation(
            why="tanh bends within a coordinate",
            dials={"activation": "tanh"},
            changes=("S0-16",),
        ),
        Perturbation(
            why="a leaky unit below 0 has a slope, and its weights a curvature with those of other layers",
            dials={"activation": "leaky"},
            changes=("S0-33",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        net = FlatNet(
            sizes=(dials.inputs, dials.width, dials.width, 1), activation=ACTIVATIONS[dials.activation]
        )
        generator = run.torch(0)
        x = torch.randn(dials.networks, dials.samples, dials.inputs, generator=generator, dtype=torch.float64)
        y = torch.randn(dials.networks, dials.samples, generator=generator, dtype=torch.float64)
        theta = net.start(dials.networks, generator, gain=1.4, bias=0.5)
        matrices = _hessians(net, theta, x, y)
        lowest = torch.linalg.eigvalsh(matrices)[:, 0]
        saddle = lowest < -dials.negative
        diagonals = matrices.diagonal(dim1=1, dim2=2)
        down = (diagonals[saddle] < -dials.negative).double().mean(1)
        rows = _sunk_rows(net, theta, x, y, dials)
        parts = (
            Part(
                row="S0-16",
                says="where the Hessian has a negative curvature, some coordinates curve down",
                estimate=mean(down),
                region=at_least(dials.present),
            ),
            Part(
                row="S0-33",
                says="the Hessian has something to say about a unit that is negative on all samples",
                estimate=exact(float(rows.abs().max()), n=dials.networks),
                region=at_least(dials.negative),
            ),
        )
        return Measurement(
            parts=parts,
            figure=_figure(diagonals, lowest),
            note=f"{int(saddle.sum())} of {dials.networks} random points have a negative curvature.",
        )


def _hessians(net: FlatNet, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Of the mean squared error, shape (R, P, P)."""

    def loss(one: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        return (net(one, inputs)[:, 0] - targets).square().mean()

    found: Tensor = vmap(hessian(loss), chunk_size=50)(theta, x, y)
    return found


def _sunk_rows(net: FlatNet, theta: Tensor, x: Tensor, y: Tensor, dials: Dials) -> Tensor:
    """Rows of the Hessian for the weights and the bias of a unit that is negative on all samples.

    Args:
        net: The networks.
        theta: Their parameters, shape (R, P).
        x: Inputs, shape (R, N, D).
        y: Targets, shape (R, N).
        dials: The settings.

    Returns:
        Shape (R, D + 1, P).
    """
    weights = slice(0, dials.inputs)
    bias = dials.inputs * dials.width
    theta = theta.clone()
    state = (x @ theta[:, weights, None])[..., 0]
    theta[:, bias] = -(state.amax(1) + dials.sunk)
    matrices = _hessians(net, theta, x, y)
    return torch.cat([matrices[:, weights], matrices[:, bias : bias + 1]], 1)


def _figure(diagonals: Tensor, lowest: Tensor) -> Figure:
    """The smallest diagonal entry and the smallest eigenvalue of each net."""
    order = lowest.argsort()
    places = range(len(order))
    return Figure(
        title="The most negative curvature, and what coordinates show of it",
        x="net, in order of its smallest eigenvalue",
        y="curvature",
        lines=(
            line("smallest diagonal entry", places, diagonals.amin(1)[order]),
            line("smallest eigenvalue", places, lowest[order]),
            line("0", (0, len(order) - 1), (0, 0), dashed=True),
        ),
    )
