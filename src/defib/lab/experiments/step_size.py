"""Is the learning rate a number between 0 and 1, and does a smaller one need more iterations?

Claim
-----
The learning rate is a small number between 0 and 1. And: a smaller learning rate needs more
iterations.

Prediction
----------
Near a minimum the loss is a bowl, and along a direction of curvature lambda plain descent
multiplies the distance to the minimum by 1 - eta lambda a step. That shrinks if and only if
eta < 2 / lambda, with the largest curvature in place of lambda. The number 1 has nothing to
do with it: where curvatures are above 2, rates between 0 and 1 may diverge; where they are
below 1, rates of 1.5 are safe. Well below the limit, the steps needed grow as 1 / eta. Near it
the claim turns round: 1 - eta lambda comes close to -1, the run oscillates for long, and a
smaller rate needs fewer steps.

Method
------
Random bowls whose largest curvature is spread evenly over decades, random rates: the share
that comes closer to the minimum. Then each bowl at two rates well below its own limit, one ten
times the other, and again with the larger rate just below the limit: steps until a hundredth
of the distance is left.

References:
----------
Nesterov 2004, Introductory lectures on convex optimization, section 1.2.3; LeCun, Bottou,
Orr, Mueller 1998, Efficient backprop, section 4 (largest rate 2 / lambda).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import ALWAYS, NEVER, at_least, mean, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    bowls: int = dial(2000, "random bowls", quick=500)
    size: int = dial(5, "parameters of a bowl")
    flattest: float = dial(0.1, "smallest largest-curvature of a bowl")
    steepest: float = dial(100.0, "largest")
    spread: float = dial(0.5, "decades between the curvatures of one bowl")
    steps: int = dial(200, "steps after which it is judged whether a run came closer")
    slow: float = dial(0.05, "the smaller of two rates, as a share of 2 / lambda")
    ratio: float = dial(10.0, "the larger rate over the smaller")
    middle: float = dial(0.2, "a rate in the middle, as a share of 2 / lambda")
    near: float = dial(0.98, "a rate just below the limit, as a share of 2 / lambda")
    accuracy: float = dial(0.01, "share of the distance that is left at the end")
    limit: int = dial(5000, "steps after which a run is given up")
    line_search: bool = dial(False, "whether every step has the length that is best along the gradient")


class StepSize(Experiment[Dials]):
    """Plain descent in bowls of many curvatures, at many rates."""

    slug = "step-size"
    title = "Is the learning rate a number between 0 and 1, and does a smaller one need more iterations?"
    topic = Topic.STATIONARY
    rows = ("S4-1", "S4-3")
    dials = Dials
    perturbations = (
        Perturbation(
            why="where every bowl's limit 2 / lambda is just above 1, the number 1 is the border",
            dials={"flattest": 1.9, "steepest": 1.95},
            changes=("S4-1",),
        ),
        Perturbation(
            why="with the best step along every gradient, the rate no longer matters",
            dials={"line_search": True},
            changes=("S4-3",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        curvature, start = _bowls(dials, run.torch(0))
        draw = torch.rand(2, dials.bowls, 1, generator=run.torch(1), dtype=torch.float64)
        within = _left(dials, curvature, start, draw[0]) < 1
        beyond = _left(dials, curvature, start, 1.1 + draw[1]) < 1
        limit = 2 / curvature.amax(1, keepdim=True)
        slow = _needed(dials, curvature, start, dials.slow * limit)
        fast = _needed(dials, curvature, start, dials.ratio * dials.slow * limit)
        middle = _needed(dials, curvature, start, dials.middle * limit)
        near = _needed(dials, curvature, start, dials.near * limit)
        parts = (
            Part(
                row="S4-1",
                says="a rate between 0 and 1 comes closer to the minimum",
                estimate=share(int(within.sum()), dials.bowls),
                region=ALWAYS,
            ),
            Part(
                row="S4-1",
                says="a rate between 1.1 and 2.1 does not",
                estimate=share(int(beyond.sum()), dials.bowls),
                region=NEVER,
            ),
            Part(
                row="S4-1",
                says="a rate that is small (0.01 of 2 / lambda) comes closer",
                estimate=share(int((_left(dials, curvature, start, 0.01 * limit) < 1).sum()), dials.bowls),
                region=ALWAYS,
            ),
            Part(
                row="S4-3",
                says=f"a rate {dials.ratio:g} times smaller needs at least half as many times the steps",
                estimate=mean(slow / fast, unit="ratio of steps"),
                region=at_least(dials.ratio / 2),
            ),
            Part(
                row="S4-3",
                says=f"so does {dials.middle:g} of 2 / lambda compared with {dials.near:g} of it",
                estimate=mean(middle / near, unit="ratio of steps"),
                region=at_least(dials.near / dials.middle / 2),
            ),
        )
        return Measurement(parts=parts, figure=_figure(dials, curvature, start))


def _bowls(dials: Dials, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Curvatures along the axes and starting points of norm 1, in float64."""
    low, high = math.log10(dials.flattest), math.log10(dials.steepest)
    top = 10 ** (low + (high - low) * torch.rand(dials.bowls, 1, generator=generator, dtype=torch.float64))
    shape = (dials.bowls, dials.size)
    shares = 10 ** (-dials.spread * torch.rand(shape, generator=generator, dtype=torch.float64))
    shares[:, 0] = 1
    start = torch.randn(shape, generator=generator, dtype=torch.float64)
    return top * shares, start / start.norm(dim=1, keepdim=True)


def _step(dials: Dials, curvature: Tensor, w: Tensor, rate: Tensor) -> Tensor:
    gradient = curvature * w
    if dials.line_search:
        steepness = (curvature * gradient.square()).sum(1, keepdim=True)
        rate = gradient.square().sum(1, keepdim=True) / steepness.clamp(min=1e-300)
    return w - rate * gradient


def _left(dials: Dials, curvature: Tensor, start: Tensor, rate: Tensor) -> Tensor:
    """The distance to the minimum at the end, shape (bowls,); it was 1."""
    w = start
    for _ in range(dials.steps):
        w = _step(dials, curvature, w, rate)
    left: Tensor = w.norm(dim=1)
    return left.nan_to_num(math.inf)


def _needed(dials: Dials, curvature: Tensor, start: Tensor, rate: Tensor) -> Tensor:
    """Steps until a hundredth of the distance is left, shape (bowls,); inf for given up."""
    w = start
    needed = torch.full((len(start),), math.inf, dtype=torch.float64)
    for step in range(1, dials.limit + 1):
        w = _step(dials, curvature, w, rate)
        needed[(w.norm(dim=1) <= dials.accuracy) & needed.isinf()] = step
        if bool(needed.isfinite().all()):
            break
    return needed


def _figure(dials: Dials, curvature: Tensor, start: Tensor) -> Figure:
    """Steps needed against the rate, and the law 1 / eta."""
    shares = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9)
    limit = 2 / curvature.amax(1, keepdim=True)
    steps = [float(_needed(dials, curvature[:100], start[:100], s * limit[:100]).median()) for s in shares]
    return Figure(
        title="Steps to a hundredth of the distance",
        x="rate, as a share of 2 / lambda",
        y="steps (median)",
        lines=(
            line("plain descent", shares, steps),
            line("proportional to 1 / rate", shares, [steps[0] * shares[0] / s for s in shares], dashed=True),
        ),
        log_x=True,
        log_y=True,
    )
