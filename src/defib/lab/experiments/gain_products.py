"""Do factors below 1 multiply to nothing and factors above 1 to infinity?

Claim
-----
A gradient is multiplied by a factor at every layer. If the factors are below 1 it goes to
0, if they are above 1 it goes to infinity; weights below 1 contribute to it. Activations
without an upper bound explode in deep and recurrent nets.

Prediction
----------
A random matrix of n x n entries of variance g^2 / n multiplies a norm by about g: after L
layers by g^L. Its logarithm falls a little faster than L log10 g, by about 1 / (2 n ln 10)
decades a layer (its fluctuations are log-normal, of variance L / n). One ReLU layer of N(0,
1) weights has g^2 = n / 2. A bounded activation cannot exceed its bound.

Method
------
Random products in 64 bits at gains below, at and above 1, decades a layer. Then forward
passes of a deep net and of a recurrent net (one matrix, used at every step) of ReLU units
and of tanh units with N(0, 1) weights.

References:
----------
Hochreiter 1991; Bengio, Simard, Frasconi 1994; Hanin 2018, Which neural net architectures
give rise to exploding and vanishing gradients?
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, mean, near
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import ACTIVATIONS


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    width: int = dial(64, "n, units of a layer")
    depth: int = dial(40, "L, layers")
    repetitions: int = dial(400, "products of each gain", quick=100)
    below: float = dial(0.8, "g of the factors that are called below 1")
    above: float = dial(1.25, "g of those called above 1")
    normalised: bool = dial(False, "whether every layer's output is scaled to the norm of its input")
    least: float = dial(0.01, "decades a layer that count as a change")
    unbounded: str = dial("relu", "activation without an upper bound")
    deviation: float = dial(1.0, "deviation of the weights of the deep and the recurrent net")
    miss: float = dial(0.01, "decades a layer by which a gain may miss its formula")
    explosion: float = dial(3.0, "decades of growth that are called an explosion")


class GainProducts(Experiment[Dials]):
    """Norms under products of random matrices."""

    slug = "gain-products"
    title = "Do gains below 1 vanish and gains above 1 explode?"
    topic = Topic.GRADIENTS
    rows = ("S2-34", "S4-15", "S4-33", "S4-35")
    dials = Dials
    perturbations = (
        Perturbation(
            why="a norm layer behind every matrix takes each factor back",
            dials={"normalised": True},
            changes=("S2-34", "S4-15", "S4-35"),
        ),
        Perturbation(why="tanh has a bound", dials={"unbounded": "tanh"}, changes=("S4-33",)),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        gains = (dials.below, 1.0, dials.above)
        paths = [_products(dials, g, run.torch(k)) for k, g in enumerate(run.track(gains))]
        ends = [path[:, -1] / dials.depth for path in paths]
        below, above = (mean(ends[k], unit="decades a layer") for k in (0, 2))
        depths = range(1, dials.depth + 1)
        drawn = [line(f"g = {g:g}", depths, path.mean(0)) for g, path in zip(gains, paths, strict=True)]
        predicted = [
            line(f"g^L, g = {g:g}", depths, [n * math.log10(g) for n in depths], dashed=True) for g in gains
        ]
        shrinks, grows = at_most(-dials.least), at_least(dials.least)
        return Measurement(
            parts=(
                Part(row="S2-34", says="factors below 1 go to 0", estimate=below, region=shrinks),
                Part(
                    row="S2-34",
                    says="factors above 1 go to infinity",
                    estimate=above,
                    region=grows,
                ),
                Part(
                    row="S2-34",
                    says="and they do so as g^L",
                    estimate=below,
                    region=near(math.log10(dials.below) - 1 / (2 * dials.width * math.log(10)), dials.miss),
                ),
                Part(row="S4-15", says="a gain above 1 explodes", estimate=above, region=grows),
                Part(
                    row="S4-35",
                    says="weights of a gain below 1 contribute to vanishing",
                    estimate=below,
                    region=shrinks,
                ),
                *_explosions(dials, run),
            ),
            figure=Figure(
                title="Norm of a signal through random matrices",
                x="layers",
                y="decades",
                lines=(*drawn, *predicted),
            ),
        )


def _products(dials: Dials, gain: float, generator: torch.Generator) -> np.ndarray:
    """log10 of the norm after 1 ... L layers: shape (repetitions, L)."""
    n, rounds = dials.width, dials.repetitions
    v = torch.randn(rounds, n, 1, generator=generator, dtype=torch.float64)
    v = v / v.norm(dim=1, keepdim=True)
    total = torch.zeros(rounds, dtype=torch.float64)
    found = []
    for _ in range(dials.depth):
        w = torch.randn(rounds, n, n, generator=generator, dtype=torch.float64) * (gain / math.sqrt(n))
        v = w @ v
        size = v.norm(dim=1, keepdim=True)
        v = v / size
        if not dials.normalised:
            total = total + size.flatten().log10()
        found.append(total)
    return torch.stack(found, 1).numpy()


def _explosions(dials: Dials, run: LabRun) -> list[Part]:
    """Growth of the activations of deep and of recurrent nets, unbounded and bounded."""
    parts = []
    arms = [(kind, name) for name in (dials.unbounded, "tanh") for kind in ("deep", "recurrent")]
    for number, (kind, name) in enumerate(arms):
        grown = [_growth(dials, name, kind == "recurrent", run.torch(9, number, k)) for k in range(16)]
        bounded = number > 1
        parts.append(
            Part(
                row="S4-33",
                says=f"activations of a {kind} net "
                + ("of bounded units (tanh) do not explode" if bounded else f"of {name} units explode"),
                estimate=mean(grown, unit="decades"),
                region=at_most(dials.explosion) if bounded else at_least(dials.explosion),
            )
        )
    return parts


def _growth(dials: Dials, activation: str, recurrent: bool, generator: torch.Generator) -> float:
    """Decades between the input's and the last activation's root mean square."""
    f = ACTIVATIONS[activation]
    n = dials.width
    h = torch.randn(n, generator=generator, dtype=torch.float64)
    start = h.norm()
    weight = None
    for _ in range(dials.depth):
        if weight is None or not recurrent:
            weight = torch.randn(n, n, generator=generator, dtype=torch.float64) * dials.deviation
        h = f(weight @ h)
    return torch.log10(h.norm() / start).item()
