"""Must the initialisation match the activation?

Claim
-----
The initialisation must match the activation: each needs weights of its own deviation.

Prediction
----------
With weights of variance g^2 / n a layer keeps the variance q = 1 of pre-activations if g =
1 / E[f(z)^2]^(1/2), z a standard normal number, and keeps a gradient's norm if g = 1 /
E[f'(z)^2]^(1/2). Both are 2^(1/2) for ReLU (He); for leaky ReLU of slope a (2 / (1 +
a^2))^(1/2); about 1 for SELU; 1 for a linear unit (Xavier, LeCun). The two differ for
others: for the sigmoid no g does both.

Method
------
The printed gains against the formula's integrals. Then deep nets of leaky ReLU units:
decades a layer that a signal's norm changes by, with the gain of their own slope and with
ReLU's (He's); the same for ReLU and tanh.

References:
----------
He, Zhang, Ren, Sun 2015; Glorot and Bengio 2010; LeCun, Bottou, Orr, Mueller 1998,
Efficient backprop; Klambauer et al. 2017, Self-normalizing neural networks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from defib.lab.dials import dial
from defib.lab.estimate import Estimate, at_least, exact, mean, near
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Published, Topic
from defib.lab.figure import Figure, Kind, bars
from defib.lab.gauss import expect, slope_of
from defib.lab.nets import ACTIVATIONS, fill, relu

PRINTED = {
    "relu": (math.sqrt(2), "He et al. 2015"),
    "linear": (1.0, "Glorot and Bengio 2010; LeCun et al. 1998"),
    "selu": (1.0, "Klambauer et al. 2017"),
}
"""Gains that keep pre-activations' variance, as printed."""


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    width: int = dial(256, "n, units of a layer", quick=192)
    depth: int = dial(20, "layers", quick=10)
    nets: int = dial(30, "networks of each kind", quick=10)
    slope: float = dial(0.5, "a, the leaky ReLU's slope for negative inputs")
    level: float = dial(0.02, "decades a layer that count as no change")
    miss: float = dial(1e-3, "by how much a printed gain may miss the integral")
    ignore: bool = dial(False, "whether the nets that should match are given the linear gain instead")


class GainTable(Experiment[Dials]):
    """Gains by formula and in nets."""

    slug = "gain-table"
    title = "Does each activation need weights of its own size?"
    topic = Topic.INITIALISATION
    rows = ("S2-31",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="with one gain for all activations those of other slopes drift",
            dials={"ignore": True},
            changes=("S2-31",),
        ),
        Perturbation(
            why="at slope 0 a leaky ReLU is a ReLU: its gain is no mismatch",
            dials={"slope": 0.0},
            changes=("S2-31",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        leaky = math.sqrt(2 / (1 + dials.slope**2))
        arms: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], float, float]] = {
            "leaky": (relu(dials.slope), leaky, math.sqrt(2)),
            "relu": (torch.relu, math.sqrt(2), 1.0),
            "tanh": (torch.tanh, 1 / _root(torch.tanh), 0.5),
        }
        drift: dict[str, list[Estimate]] = {}
        for number, (name, (f, own, other)) in enumerate(run.track(arms.items())):
            drift[name] = []
            for gain in (1.0 if dials.ignore else own, other):
                changes = [_drift(dials, f, gain, run.torch(number, k)) for k in range(dials.nets)]
                drift[name].append(mean(changes, unit="decades a layer"))
        return Measurement(
            parts=(
                *(
                    Part(
                        row="S2-31",
                        says=f"the printed gain of {name} is the integral's",
                        estimate=exact(1 / _root(ACTIVATIONS[name])),
                        region=near(value, dials.miss),
                        published=Published(value=value, source=source),
                    )
                    for name, (value, source) in PRINTED.items()
                ),
                Part(
                    row="S2-31",
                    says="leaky ReLU with its own gain keeps signals",
                    estimate=drift["leaky"][0],
                    region=near(0.0, dials.level),
                ),
                Part(
                    row="S2-31",
                    says="leaky ReLU with ReLU's gain does not: signals grow",
                    estimate=drift["leaky"][1],
                    region=at_least(dials.level),
                ),
                Part(
                    row="S2-31",
                    says="ReLU with its own gain keeps signals",
                    estimate=drift["relu"][0],
                    region=near(0.0, dials.level),
                ),
            ),
            figure=Figure(
                title="Change of a signal's norm",
                x="activation",
                y="decades a layer",
                lines=(
                    bars("with its own gain", [pair[0].value for pair in drift.values()]),
                    bars("with another's", [pair[1].value for pair in drift.values()]),
                ),
                kind=Kind.BAR,
                labels=tuple(arms),
            ),
            note="Gains that keep signals | gradients at variance 1: " + _table(),
        )


def _root(f: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """E[f(z)^2]^(1/2)."""
    return math.sqrt(expect(lambda z: f(z).square(), 1.0))


def _table() -> str:
    names = ("relu", "tanh", "sigmoid", "gelu", "silu", "elu", "selu", "softplus")
    gains = ((name, _root(ACTIVATIONS[name]), _root(slope_of(ACTIVATIONS[name]))) for name in names)
    return "; ".join(f"{name} {1 / forward:.4f} | {1 / backward:.4f}" for name, forward, backward in gains)


def _drift(
    dials: Dials, f: Callable[[torch.Tensor], torch.Tensor], gain: float, generator: torch.Generator
) -> float:
    """Decades a layer that a deep net changes the pre-activations' root mean square by, from 1."""
    n = dials.width
    s = torch.randn(8, n, generator=generator, dtype=torch.float64)
    sizes = [s.square().mean().sqrt().log10().item()]
    for _ in range(dials.depth):
        weight = torch.empty(n, n, dtype=torch.float64)
        fill(weight, "lecun", generator, gain=gain)
        s = f(s) @ weight.T
        sizes.append(s.square().mean().sqrt().log10().item())
    return float(np.diff(sizes).mean())
