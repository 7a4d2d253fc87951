"""What do a ReLU net's activations look like under each way to draw its weights?

Claim
-----
The blog's plot: a 5-layer ReLU net's activations under several initialisations. With small
weights signals are "choked off" layer by layer; the right initialisation keeps them.

Prediction
----------
A ReLU layer of n inputs and weights of deviation w multiplies the root mean square by g = w
(n / 2)^(1/2): N(0, 0.01) chokes (g = 0.11 at n = 256), torch's default loses a factor 0.41
and Xavier 0.71 a layer, He's w = (2 / n)^(1/2) keeps, N(0, 1) explodes (g = 11). Orthogonal
weights act as Xavier's. LSUV measures each layer on data and divides by its deviation: it
keeps for any activation. Zero weights give zero.

Method
------
Random inputs through a deep net under each initialisation; root mean square of every
layer's activations over the first layer's, in decades, mean over nets.

References:
----------
He, Zhang, Ren, Sun 2015; Mishkin and Matas 2016, All you need is a good init; Karpathy's
lecture CS231n on the same plot.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from defib.lab.dials import dial
from defib.lab.estimate import Estimate, Region, at_least, at_most, between, exact, mean
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import ACTIVATIONS, fill

ARMS = {
    "N(0, 0.01)": ("normal", 0.01),
    "torch default": ("default", 1.0),
    "Xavier": ("xavier", 1.0),
    "orthogonal": ("orthogonal", 1.0),
    "He": ("he", 1.0),
    "LSUV": ("lsuv", 1.0),
    "N(0, 1)": ("normal", 1.0),
}
"""Ways to draw weights: that of ``nets.fill`` and its gain."""


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    depth: int = dial(5, "hidden layers")
    width: int = dial(256, "units of each, and inputs")
    samples: int = dial(128, "random inputs")
    nets: int = dial(20, "networks under each initialisation", quick=6)
    activation: str = dial("relu", "activation")
    choked: float = dial(0.4, "decades between first and last layer that count as choked or exploded")
    kept: float = dial(0.2, "decades up to which a signal counts as kept")


class SignalByInitialisation(Experiment[Dials]):
    """The classic plot of activations by layer."""

    slug = "signal-by-initialisation"
    title = "Which initialisation keeps a 5-layer ReLU net's signals?"
    topic = Topic.INITIALISATION
    rows = ("S1-8",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="linear units pass what ReLU halves: He now explodes, Xavier keeps",
            dials={"activation": "linear"},
            changes=("S1-8",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        found = {
            name: np.array([_signals(dials, *arm, run.torch(number, k)) for k in range(dials.nets)])
            for number, (name, arm) in enumerate(run.track(ARMS.items()))
        }
        ends = {name: mean(paths[:, -1], unit="decades") for name, paths in found.items()}
        choked, kept = at_most(-dials.choked), between(-dials.kept, dials.kept)
        zero = torch.zeros(dials.width, dials.width)
        silent = ACTIVATIONS[dials.activation](torch.randn(1, dials.width, generator=run.torch(99)) @ zero)

        def part(says: str, estimate: Estimate, region: Region) -> Part:
            return Part(row="S1-8", says=says, estimate=estimate, region=region)

        layers = range(1, dials.depth + 1)
        return Measurement(
            parts=(
                part("zero weights give zero", exact(silent.abs().max().item()), at_most(0.0)),
                part("N(0, 0.01) weights choke the signal", ends["N(0, 0.01)"], choked),
                part("torch's default weights choke it", ends["torch default"], choked),
                part("Xavier's weights choke it under ReLU", ends["Xavier"], choked),
                part("orthogonal weights do as Xavier's", ends["orthogonal"], choked),
                part("He's weights keep it", ends["He"], kept),
                part("LSUV keeps it", ends["LSUV"], kept),
                part("N(0, 1) weights explode", ends["N(0, 1)"], at_least(dials.choked)),
            ),
            figure=Figure(
                title="Root mean square of activations over the first layer's",
                x="hidden layer",
                y="decades",
                lines=(
                    *(line(name, layers, paths.mean(0)) for name, paths in found.items()),
                    *(
                        line(
                            f"{name}, formula",
                            layers,
                            [k * _gain(dials, *arm) for k in range(dials.depth)],
                            dashed=True,
                        )
                        for name, arm in ARMS.items()
                        if name != "LSUV"
                    ),
                ),
            ),
        )


def _gain(dials: Dials, how: str, gain: float) -> float:
    """Decades a ReLU layer, by the formula."""
    n = dials.width
    variance = {"normal": 1.0, "default": 1 / (3 * n), "he": 2 / n}.get(how, 1 / n)
    return math.log10(gain * math.sqrt(variance * n / 2))


def _signals(dials: Dials, how: str, gain: float, generator: torch.Generator) -> list[float]:
    """log10 of each layer's root mean square over the first one's."""
    f = ACTIVATIONS[dials.activation]
    h = torch.randn(dials.samples, dials.width, generator=generator, dtype=torch.float64)
    sizes = []
    for _ in range(dials.depth):
        weight = torch.empty(dials.width, dials.width, dtype=torch.float64)
        fill(weight, "orthogonal" if how == "lsuv" else how, generator, gain=gain)
        s = h @ weight.T
        if how == "lsuv":
            s = s / s.std()
        h = f(s)
        sizes.append(h.square().mean().sqrt().log10().item())
    return [size - sizes[0] for size in sizes]
