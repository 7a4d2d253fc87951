"""What are the points of zero gradient: minima, maxima or saddles?

Claim
-----
A zero gradient may be a bad local minimum, a maximum or a saddle point. And: most stationary
points of a network are saddle points.

Prediction
----------
The index of a stationary point is its number of negative curvatures (eigenvalues of the
Hessian, the matrix of second derivatives). A minimum has index 0, a maximum index P, the
number of parameters. There is no strict maximum: the loss is strictly convex in the output
bias, so that one curvature at least is positive everywhere. Bad minima exist in narrow nets.
The more parameters, the more likely it is that one curvature of many is negative, and the
share of minima among stationary points falls with the width.

Method
------
A regularised Gauss-Newton search for zeros of the gradient: with gradient g and Hessian A,
the step (A A + mu)^-1 A g lowers |g|^2, whatever the index. It begins at random points, some
after a few steps of descent. Kept are ends with |g| < 1e-9 that have not run off to infinity;
their eigenvalues are counted with a tolerance of 1e-7. One hidden tanh layer, 2 inputs,
squared loss, float64. What is found depends on where the search begins: shares are of
starts, data set by data set, not of all points that there are.

References:
----------
Dauphin et al. 2014, Identifying and attacking the saddle point problem; Frye et al. 2021,
Critical point-finding methods reveal gradient-flat regions of deep network losses (accept
only true zeros of the gradient).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, vmap

from defib.lab.dials import dial
from defib.lab.estimate import MOSTLY, at_least, exact, mean
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.flat import FlatNet, hessian

Batched = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    widths: tuple[int, ...] = dial((1, 2, 3), "hidden units; 0 is a linear model", quick=(1, 2))
    data_sets: int = dial(60, "random data sets", quick=24, paper=200)
    starts: int = dial(9, "starts of the search at each width, for each data set", paper=30)
    descent: tuple[int, ...] = dial(
        (0, 100, 1000), "steps of descent before the search, one kind of start each"
    )
    rounds: int = dial(150, "steps of the search", quick=60, paper=500)
    samples: int = dial(24, "samples of the data set")
    tolerance: float = dial(1e-9, "largest gradient norm of a stationary point")
    flat: float = dial(1e-7, "smallest curvature that is not 0")
    reach: float = dial(30.0, "largest norm of the parameters that is not infinity")
    bad: float = dial(0.01, "a minimum is bad if its loss is above the best by this share")


class CriticalPoints(Experiment[Dials]):
    """Zeros of the gradient of small tanh nets, by their index."""

    slug = "critical-points"
    title = "What are the points of zero gradient: minima, maxima or saddles?"
    topic = Topic.STATIONARY
    rows = ("S0-14", "S0-15")
    dials = Dials
    perturbations = (
        Perturbation(
            why="a model without a hidden layer has a convex loss: its only stationary point is the minimum",
            dials={"widths": (0,)},
            changes=("S0-14", "S0-15"),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        found = {width: _search(width, dials, run) for width in run.track(dials.widths)}
        maxima = sum(int((points.index == points.parameters).sum()) for points in found.values())
        saddles = sum(
            int(((points.index > 0) & (points.index < points.parameters)).sum()) for points in found.values()
        )
        bad = sum(_bad(points, dials) for points in found.values())
        n = sum(len(points.index) for points in found.values())
        existence = (("bad local minima", bad), ("maxima", maxima), ("saddle points", saddles))
        parts = [
            Part(
                row="S0-14",
                says=f"among the stationary points there are {name}",
                estimate=exact(count, n=n, unit="points"),
                region=at_least(1.0),
            )
            for name, count in existence
        ]
        parts += [
            Part(
                row="S0-15",
                says=f"{width} hidden units: most are saddle points",
                estimate=mean(_saddle_shares(points)),
                region=MOSTLY,
            )
            for width, points in found.items()
        ]
        return Measurement(parts=tuple(parts), figure=_figure(found), note=_note(found))


@dataclass(frozen=True, kw_only=True)
class _Points:
    """Stationary points of one kind of net.

    Attributes:
        data: Which data set each belongs to, shape (K,).
        loss: Shape (K,).
        index: Negative curvatures of each, shape (K,).
        parameters: P.
    """

    data: Tensor
    loss: Tensor
    index: Tensor
    parameters: int


def _search(width: int, dials: Dials, run: LabRun) -> _Points:
    net = FlatNet(sizes=(2, width, 1) if width else (2, 1), activation=torch.tanh)
    generator = run.torch(0)
    x = torch.randn(dials.data_sets, dials.samples, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(dials.data_sets, dials.samples, generator=generator, dtype=torch.float64)
    y = torch.sin(2 * x[..., 0]) * x[..., 1] + 0.3 * noise
    data = torch.arange(dials.data_sets).repeat_interleave(dials.starts)

    def loss(theta: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        return (net(theta, inputs)[:, 0] - targets).square().mean()

    def gradients(theta: Tensor, which: Tensor) -> Tensor:
        found: Tensor = vmap(grad(loss))(theta, x[which], y[which])
        return found

    def hessians(theta: Tensor, which: Tensor) -> Tensor:
        found: Tensor = vmap(hessian(loss))(theta, x[which], y[which])
        return found

    theta = _starts(net, data, dials, run.torch(1, width), gradients)
    theta = _zeros(theta, data, dials.rounds, gradients, hessians)
    small = gradients(theta, data).norm(dim=1) < dials.tolerance
    kept = small & (theta.norm(dim=1) < dials.reach)
    theta, data = theta[kept], data[kept]
    curvatures = torch.linalg.eigvalsh(hessians(theta, data))
    return _Points(
        data=data,
        loss=vmap(loss)(theta, x[data], y[data]),
        index=(curvatures < -dials.flat).sum(1),
        parameters=net.count,
    )


def _bad(points: _Points, dials: Dials) -> int:
    """Minima above the lowest stationary point that was found for the same data."""
    best = torch.full((dials.data_sets,), torch.inf, dtype=torch.float64)
    best = best.scatter_reduce(0, points.data, points.loss, "amin")
    above = points.loss > (1 + dials.bad) * best[points.data]
    return int((above & (points.index == 0)).sum())


def _saddle_shares(points: _Points) -> Tensor:
    """Of each data set for which anything was found, the share of points that are saddles."""
    saddle = (points.index > 0).double()
    return torch.stack([saddle[points.data == which].mean() for which in torch.unique(points.data)])


def _starts(
    net: FlatNet, data: Tensor, dials: Dials, generator: torch.Generator, gradients: Batched
) -> Tensor:
    """Random points of three sizes, some of them after descent.

    Args:
        net: The network.
        data: Which data set each start belongs to, shape (R,).
        dials: The settings.
        generator: Where chance comes from.
        gradients: Of the loss, from (R, P) and data sets to (R, P).

    Returns:
        Shape (R, P).
    """
    theta = torch.randn(len(data), net.count, generator=generator, dtype=torch.float64)
    sizes = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    theta = theta * sizes[torch.randint(3, (len(data), 1), generator=generator)]
    kind = torch.arange(len(data)) % len(dials.descent)
    steps = torch.tensor(dials.descent)[kind]
    for step in range(max(dials.descent)):
        moving = steps > step
        theta[moving] -= 0.2 * gradients(theta[moving], data[moving])
    return theta


def _zeros(theta: Tensor, data: Tensor, rounds: int, gradients: Batched, hessians: Batched) -> Tensor:
    """Lowers the gradient's norm by Gauss-Newton steps, each start with its own damping mu."""
    g = gradients(theta, data)
    damping = torch.full((len(theta), 1, 1), 1e-2, dtype=torch.float64)
    for _ in range(rounds):
        a = hessians(theta, data)
        square = a @ a + damping * torch.eye(theta.shape[1], dtype=torch.float64)
        step = torch.linalg.solve(square, a @ g[..., None])[..., 0]
        tried = theta - step * (1 / step.norm(dim=1, keepdim=True)).clamp(max=1)
        there = gradients(tried, data)
        better = there.norm(dim=1) < g.norm(dim=1)
        theta = torch.where(better[:, None], tried, theta)
        g = torch.where(better[:, None], there, g)
        damping = torch.where(better[:, None, None], damping * 0.4, damping * 3).clamp(1e-16, 1e6)
    return theta


def _figure(found: dict[int, _Points]) -> Figure:
    """Share of starts that end at each index."""
    most = max((int(p.index.max()) for p in found.values() if len(p.index)), default=0)
    lines = []
    for width, points in found.items():
        shares = [float((points.index == k).double().mean()) for k in range(most + 1)]
        lines.append(line(f"{width} hidden units, {points.parameters} parameters", range(most + 1), shares))
    return Figure(
        title="Stationary points by their number of negative curvatures",
        x="index (0 is a minimum)",
        y="share of starts",
        lines=tuple(lines),
    )


def _note(found: dict[int, _Points]) -> str:
    told = ", ".join(
        f"{int((points.index == 0).sum())} of {len(points.index)} with {width} hidden units"
        for width, points in found.items()
    )
    return f"Minima among the stationary points: {told}."
