"""Is an elongated bowl slower to descend than a round one?

Claim
-----
An elongated bowl is slower to descend than a round one.

Prediction
----------
A bowl with curvatures between lambda_min and lambda_max has the condition number kappa =
lambda_max / lambda_min. The best constant rate of plain descent is 2 / (lambda_min +
lambda_max); then a step shrinks the distance by (kappa - 1) / (kappa + 1), and the steps to
a given accuracy grow in proportion to kappa: slope 1. Heavy-ball momentum at its best shrinks
it by (sqrt(kappa) - 1) / (sqrt(kappa) + 1): slope 1/2, still slower in elongated bowls. Only a
method that divides by the curvature (Newton's) does not care.

Method
------
Random bowls of each kappa; steps until 1e-6 of the distance is left; slopes of log(steps)
against log(kappa), bowl by bowl.

References:
----------
Polyak 1964, Some methods of speeding up the convergence of iteration methods.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import mean, near
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    bowls: int = dial(300, "random bowls of each kind", quick=100, paper=2000)
    size: int = dial(6, "parameters of a bowl")
    kappas: tuple[float, ...] = dial(
        (10.0, 30.0, 100.0, 300.0), "condition numbers", quick=(10.0, 30.0, 100.0)
    )
    accuracy: float = dial(1e-6, "share of the distance that is left at the end")
    newton: bool = dial(False, "whether steps are divided by the curvature")
    tolerance: float = dial(0.15, "how far a slope may be from the predicted one")
    limit: int = dial(20000, "steps after which a run is given up")


class ConditionNumber(Experiment[Dials]):
    """Bowls of growing elongation, descended at the best constant rates."""

    slug = "condition-number"
    title = "Is an elongated bowl slower to descend than a round one?"
    topic = Topic.STATIONARY
    rows = ("S4-5",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="a step divided by the curvature is as fast in every bowl",
            dials={"newton": True},
            changes=("S4-5",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        plain, heavy = [], []
        for number, kappa in enumerate(run.track(dials.kappas)):
            curvature, start = _bowls(dials, kappa, run.torch(number))
            plain.append(_needed(dials, curvature, start, kappa, momentum=False))
            heavy.append(_needed(dials, curvature, start, kappa, momentum=True))
        parts = (
            Part(
                row="S4-5",
                says="plain descent: the steps grow in proportion to kappa",
                estimate=mean(_slopes(plain, dials.kappas), unit="decades per decade"),
                region=near(1.0, dials.tolerance),
            ),
            Part(
                row="S4-5",
                says="heavy ball: an elongated bowl still needs more, as the root of kappa",
                estimate=mean(_slopes(heavy, dials.kappas), unit="decades per decade"),
                region=near(0.5, dials.tolerance),
            ),
        )
        ends = [[float(n.median()) for n in found] for found in (plain, heavy)]
        logs = -math.log(dials.accuracy)
        return Measurement(
            parts=parts,
            figure=Figure(
                title=f"Steps to {dials.accuracy:g} of the distance",
                x="condition number kappa",
                y="steps (median)",
                lines=(
                    line("plain descent", dials.kappas, ends[0]),
                    line("heavy ball", dials.kappas, ends[1]),
                    line(
                        "ln(1/accuracy) kappa / 2",
                        dials.kappas,
                        [logs * k / 2 for k in dials.kappas],
                        dashed=True,
                    ),
                    line(
                        "ln(1/accuracy) sqrt(kappa) / 2",
                        dials.kappas,
                        [logs * math.sqrt(k) / 2 for k in dials.kappas],
                        dashed=True,
                    ),
                ),
                log_x=True,
                log_y=True,
            ),
        )


def _bowls(dials: Dials, kappa: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Curvatures from 1/kappa to 1 along the axes, both ends attained; starting points of norm 1."""
    shape = (dials.bowls, dials.size)
    curvature = kappa ** -torch.rand(shape, generator=generator, dtype=torch.float64)
    curvature[:, 0], curvature[:, 1] = 1, 1 / kappa
    start = torch.randn(shape, generator=generator, dtype=torch.float64)
    return curvature, start / start.norm(dim=1, keepdim=True)


def _needed(dials: Dials, curvature: Tensor, start: Tensor, kappa: float, *, momentum: bool) -> Tensor:
    """Steps until the accuracy is reached, shape (bowls,); inf for given up."""
    root = math.sqrt(kappa)
    beta = ((root - 1) / (root + 1)) ** 2 if momentum else 0.0
    rate = 4 / (1 + 1 / root) ** 2 if momentum else 2 / (1 + 1 / kappa)
    scale: Tensor | float = rate
    if dials.newton:
        beta, scale = 0.0, 0.5 / curvature
    w, before = start, start
    needed = torch.full((len(start),), math.inf, dtype=torch.float64)
    for step in range(1, dials.limit + 1):
        w, before = w - scale * curvature * w + beta * (w - before), w
        needed[(w.norm(dim=1) <= dials.accuracy) & needed.isinf()] = step
        if step % 10 == 0 and bool(needed.isfinite().all()):
            break
    return needed


def _slopes(needed: list[Tensor], kappas: tuple[float, ...]) -> Tensor:
    x = torch.tensor(kappas, dtype=torch.float64).log10()
    x = x - x.mean()
    return (x[:, None] * torch.stack(needed).log10()).sum(0) / x.square().sum()
