"""Can ReLU pass all directions of a gradient alike, and can tanh?

Claim
-----
The ideal factor of an activation's derivative is 1, and ReLU has it. ReLU is not obviously
better than tanh.

Prediction
----------
Let J be the Jacobian matrix of L layers, the eigenvalues of J J^T scaled to mean 1. All
directions pass alike if their variance is 0. It is L (m2 / m1^2 - 1 - s), where m1 and m2
are the mean and the mean square of f'^2 and s is -1 for Gaussian and 0 for orthogonal
weights (Pennington et al.). ReLU's f'^2 is 1 or 0 with equal chance: m2 / m1^2 = 2, so the
variance is L even with orthogonal weights, and half of all directions or more pass nothing.
tanh in its linear middle (small q) comes near 0. A linear net of orthogonal weights is
exactly at 0: a factor of 1 for all units is ideal, ReLU's 1 for some is not.

Method
------
J of random nets in 64 bits, eigenvalues from singular values; the variance against the
formula, and the share of singular values that are 0.

References:
----------
Pennington, Schoenholz, Ganguli 2017, Resurrecting the sigmoid in deep learning through
dynamical isometry.
"""

import math
from dataclasses import dataclass

import torch

from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, mean, near, paired_difference
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Published, Topic
from defib.lab.figure import Figure, line
from defib.lab.gauss import slope_of
from defib.lab.nets import fill, relu


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    width: int = dial(200, "units of a layer", quick=96)
    depths: tuple[int, ...] = dial((2, 4, 8), "layers L, ascending", quick=(4, 8))
    nets: int = dial(24, "networks of each kind", quick=10)
    slope: float = dial(0.0, "slope of ReLU for negative inputs; 1 makes it linear")
    tanh_gain: float = dial(1.0, "gain of the tanh net's weights")
    q: float = dial(0.1, "variance of the tanh net's pre-activations")
    alike: float = dial(0.01, "variance up to which directions pass alike")
    miss: float = dial(0.2, "by how much, as a ratio, a variance may miss its formula")
    zero: float = dial(1e-9, "a singular value below this share of the largest is 0")


class DynamicalIsometry(Experiment[Dials]):
    """Spectra of Jacobians."""

    slug = "dynamical-isometry"
    title = "Does a derivative of 1 let all directions of a gradient through?"
    topic = Topic.GRADIENTS
    rows = ("S2-28", "S2-35")
    dials = Dials
    perturbations = (
        Perturbation(
            why="with slope 1 for negative inputs every direction passes",
            dials={"slope": 1.0},
            changes=("S2-28", "S2-35"),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        arms = ("linear", "ReLU", "tanh")
        spread: dict[tuple[str, int], list[float]] = {}
        zeros: list[float] = []
        for depth in run.track(dials.depths):
            for number, arm in enumerate(arms):
                draws = (run.torch(depth, number, k) for k in range(dials.nets))
                values = [_spectrum(dials, arm, depth, draw) for draw in draws]
                spread[arm, depth] = [e.var().item() for e in values]
                if arm == "ReLU" and depth == dials.depths[-1]:
                    zeros = [(e < (dials.zero**2) * e.max()).double().mean().item() for e in values]
        last = dials.depths[-1]
        return Measurement(
            parts=(
                Part(
                    row="S2-35",
                    says="a factor of 1 at every unit is ideal: all directions pass alike (variance)",
                    estimate=mean(spread["linear", last]),
                    region=at_most(dials.alike),
                    published=Published(value=0.0, source="Pennington et al. 2017: 0 for linear"),
                ),
                Part(
                    row="S2-35",
                    says="ReLU has that factor: no direction is lost (share of zero singular values)",
                    estimate=mean(zeros),
                    region=at_most(0.0),
                ),
                Part(
                    row="S2-35",
                    says="with ReLU all directions pass alike (variance)",
                    estimate=mean(spread["ReLU", last]),
                    region=at_most(dials.alike),
                    published=Published(value=float(last), source="Pennington et al. 2017: L for ReLU"),
                ),
                Part(
                    row="S2-28",
                    says="ReLU does not pass directions more evenly than tanh: its variance minus tanh's",
                    estimate=paired_difference(spread["ReLU", last], spread["tanh", last]),
                    region=at_least(0.0),
                ),
                Part(
                    row="S2-28",
                    says="because its variance is L (over L, measured)",
                    estimate=mean([v / last for v in spread["ReLU", last]]),
                    region=near(1.0, dials.miss),
                ),
            ),
            figure=Figure(
                title="Unevenness of the Jacobian, orthogonal weights",
                x="layers L",
                y="variance of eigenvalues (mean 1)",
                lines=(
                    *[
                        line(arm, dials.depths, [sum(spread[arm, d]) / dials.nets for d in dials.depths])
                        for arm in arms
                    ],
                    line("L", dials.depths, dials.depths, dashed=True),
                ),
            ),
        )


def _spectrum(dials: Dials, arm: str, depth: int, generator: torch.Generator) -> torch.Tensor:
    """Eigenvalues of J J^T of one net with orthogonal weights, scaled to mean 1."""
    n = dials.width
    activation = {"linear": relu(1.0), "ReLU": relu(dials.slope), "tanh": torch.tanh}[arm]
    gain = dials.tanh_gain if arm == "tanh" else math.sqrt(2 / (1 + dials.slope**2)) if arm == "ReLU" else 1.0
    h = torch.randn(n, generator=generator, dtype=torch.float64)
    jacobian = torch.eye(n, dtype=torch.float64)
    for _ in range(depth):
        weight = torch.empty(n, n, dtype=torch.float64)
        fill(weight, "orthogonal", generator, gain=gain)
        s = weight @ h
        if arm == "tanh":
            s = s * (math.sqrt(dials.q * n) / h.norm())  # keeps the variance of pre-activations at q
        jacobian = slope_of(activation)(s)[:, None] * weight @ jacobian
        h = activation(s)
    values: torch.Tensor = torch.linalg.svdvals(jacobian).square()
    return values.div(values.mean())
