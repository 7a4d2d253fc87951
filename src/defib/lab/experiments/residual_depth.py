"""What does depth in sequence do that depth beside a skip connection does not?

Claim
-----
Neither ReLU alone nor its initialisation fully solves vanishing and exploding gradients.

Prediction
----------
ReLU as torch draws it loses 0.39 decades a layer. With He weights norms stay, but the
cosine c of two inputs becomes c' = ((1 - c^2)^(1/2) + (pi - arccos c) c) / pi at each
layer: from 0 to 0.988 after 50 layers. The net then gives nearly the same output for every
input, whatever they are. In residual blocks h + F(h) with He branches a gradient grows by
about 2^(1/2) a block, 3.5 decades in 24; branches divided by L^(1/2) keep it within (1 +
1/L)^(L/2), at most a factor e^(1/2), and keep the cosine away from 1.

Method
------
Chains of L layers and residual nets of L blocks (two layers each, branch scaled or not) in
64 bits: decades that a backward signal changes by, and the mean cosine of two random
inputs' last activations, each against its formula.

References:
----------
He, Zhang, Ren, Sun 2016, Deep residual learning; Zhang, Dauphin, Ma 2019, Fixup
initialization; Cho and Saul 2009, Kernel methods for deep learning.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, between, mean, near
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, bars
from defib.lab.nets import fill, relu


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    depth: int = dial(50, "L, layers of a chain, blocks of a residual net")
    width: int = dial(256, "units of a layer", quick=128)
    nets: int = dial(16, "networks of each kind", quick=8)
    slope: float = dial(0.0, "slope of the activation for negative inputs; 1 makes it linear")
    usual: str = dial("default", "how weights are drawn without thinking of ReLU")
    solved: float = dial(1.0, "decades of change up to which norms count as kept")
    different: float = dial(0.9, "cosine up to which two inputs count as still different")
    miss: float = dial(0.02, "by how much the cosine of the chain may miss its formula")


class ResidualDepth(Experiment[Dials]):
    """Gradients and angles through chains and through residual nets."""

    slug = "residual-depth"
    title = "Do ReLU and its initialisation solve depth, or does it need skip connections?"
    topic = Topic.GRADIENTS
    rows = ("S2-40",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="orthogonal linear layers keep norms and angles at any depth: nothing is left to solve",
            dials={"slope": 1.0, "usual": "orthogonal"},
            changes=("S2-40",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        gain = math.sqrt(2 / (1 + dials.slope**2))
        scale = 1 / math.sqrt(dials.depth)
        nets: dict[str, Callable[[torch.Generator], tuple[float, float]]] = {
            "chain, usual": lambda g: _chain(dials, dials.usual, 1.0, g),
            "chain, He": lambda g: _chain(dials, "orthogonal" if dials.slope == 1 else "lecun", gain, g),
            "residual": lambda g: _residual(dials, gain, 1.0, g),
            "residual, L^(-1/2)": lambda g: _residual(dials, gain, scale, g),
        }
        found = {
            name: np.array([net(run.torch(number, k)) for k in range(dials.nets)])
            for number, (name, net) in enumerate(run.track(nets.items()))
        }
        decades = {name: mean(values[:, 0], unit="decades") for name, values in found.items()}
        cosine = {name: mean(values[:, 1]) for name, values in found.items()}
        formula = _angles(dials)
        return Measurement(
            parts=(
                Part(
                    row="S2-40",
                    says="ReLU alone, with the usual weights, does not solve it: change of a gradient",
                    estimate=decades["chain, usual"],
                    region=at_most(-dials.solved),
                ),
                Part(
                    row="S2-40",
                    says="the right initialisation keeps gradients, but not inputs apart: their cosine",
                    estimate=cosine["chain, He"],
                    region=at_least(dials.different),
                ),
                Part(
                    row="S2-40",
                    says=f"(that cosine is the formula's, {formula:.3f})",
                    estimate=cosine["chain, He"],
                    region=near(formula, dials.miss),
                ),
                Part(
                    row="S2-40",
                    says="something more is needed: with branches over L^(1/2) gradients keep",
                    estimate=decades["residual, L^(-1/2)"],
                    region=between(-dials.solved, dials.solved),
                ),
                Part(
                    row="S2-40",
                    says="and inputs stay different (cosine)",
                    estimate=cosine["residual, L^(-1/2)"],
                    region=at_most(dials.different),
                ),
            ),
            figure=Figure(
                title=f"{dials.depth} layers or blocks",
                x="net",
                y="decades; cosine",
                lines=(
                    bars("gradient, decades", [e.value for e in decades.values()]),
                    bars("cosine of two inputs", [e.value for e in cosine.values()]),
                ),
                kind=Kind.BAR,
                labels=tuple(nets),
            ),
            note=f"Unscaled residual branches: {decades['residual'].value:+.2f} decades.",
        )


def _angles(dials: Dials) -> float:
    """The cosine after L ReLU layers of two inputs at right angles; a linear net keeps it."""
    c = 0.0
    for _ in range(dials.depth if dials.slope == 0 else 0):
        c = (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / math.pi
    return c


def _weight(n: int, how: str, gain: float, generator: torch.Generator) -> Tensor:
    weight = torch.empty(n, n, dtype=torch.float64)
    fill(weight, how, generator, gain=gain)
    return weight


def _inputs(n: int, generator: torch.Generator) -> Tensor:
    """Two inputs at right angles, of unit mean square: shape (2, n)."""
    q, _ = torch.linalg.qr(torch.randn(n, 2, generator=generator, dtype=torch.float64))
    inputs: Tensor = q.T * math.sqrt(n)
    return inputs.requires_grad_()


def _judged(start: Tensor, end: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """Decades by which a random backward signal changes, and the cosine of the two ends."""
    v = torch.randn(end.shape, generator=generator, dtype=torch.float64)
    (found,) = torch.autograd.grad(end, start, v)
    cosine = torch.nn.functional.cosine_similarity(end[0], end[1], dim=0)
    return torch.log10(found.norm() / v.norm()).item(), cosine.item()


def _chain(dials: Dials, how: str, gain: float, generator: torch.Generator) -> tuple[float, float]:
    f = relu(dials.slope)
    h = start = _inputs(dials.width, generator)
    for _ in range(dials.depth):
        h = f(h @ _weight(dials.width, how, gain, generator).T)
    return _judged(start, h, generator)


def _residual(dials: Dials, gain: float, scale: float, generator: torch.Generator) -> tuple[float, float]:
    f = relu(dials.slope)
    n = dials.width
    h = start = _inputs(n, generator)
    for _ in range(dials.depth):
        inner = f(h @ _weight(n, "lecun", gain, generator).T)
        h = h + scale * inner @ _weight(n, "lecun", 1.0, generator).T
    return _judged(start, h, generator)
