"""Which factor makes gradients vanish: the activation's derivative or the weights?

Claim
-----
Vanishing "can only occur if a component is actually 0" in a ramp (ReLU) net. With tanh each
layer multiplies the error by a fraction, hence it vanishes. With ReLU the error is
"propagated fully", and "we don't encounter a vanishing gradient": "so, it's solved!". The
root cause is the sigmoid's derivative, and tanh's also. Weights below 1 contribute.

Prediction
----------
Let R be the root mean square norm of a signal. In each layer d = f'(s) * g multiplies R by
about E[f'^2]^(1/2), and W^T d multiplies it by the weights' deviation times the square root
of the number of units. The two changes, in decades, add up exactly to the whole. For ReLU
the derivative costs 0.1505 decades a layer (half the units pass), He weights give 0.1505
back and torch's default weights cost 0.239 more. For tanh with the gain 5/3 the weights
give more (0.22) than the derivative takes.

Method
------
Nets of equal layers, random inputs, a random signal sent backward, the two columns averaged
over layers, one number a net. A column is called level if it changes less than a tolerance.

References:
----------
Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural
networks; He, Zhang, Ren, Sun 2015, Delving deep into rectifiers.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from defib.lab.dials import dial
from defib.lab.estimate import Estimate, at_least, at_most, mean, near
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Published, Topic
from defib.lab.figure import Figure, Kind, bars
from defib.lab.gauss import slope_of
from defib.lab.nets import ACTIVATIONS, fill, relu


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    width: int = dial(200, "units of a layer", quick=128)
    depth: int = dial(10, "layers")
    nets: int = dial(40, "networks of each kind", quick=10)
    samples: int = dial(32, "random inputs")
    slope: float = dial(0.0, "slope of ReLU for negative inputs")
    usual: str = dial("default", "how weights are drawn where the claim names no way")
    gain: float = dial(5 / 3, "gain of the weights of the tanh net")
    level: float = dial(0.02, "decades a layer that count as no change")
    all_on: float = dial(10.0, "bias, in deviations of the pre-activation, that keeps all units on")


class Columns(NamedTuple):
    """Decades a layer that a net changes a backward signal by, one number a net."""

    derivative: "np.ndarray"
    weight: "np.ndarray"

    @property
    def total(self) -> Estimate:
        """Both together."""
        return mean(self.derivative + self.weight, unit="decades a layer")


class GradientLedger(Experiment[Dials]):
    """Decades lost to derivatives and to weights, layer by layer."""

    slug = "gradient-ledger"
    title = "Is it the activation's derivative or the weights that make gradients vanish?"
    topic = Topic.GRADIENTS
    rows = ("S2-5", "S2-43", "S2-44", "S4-19", "S4-21", "S4-35")
    dials = Dials
    perturbations = (
        Perturbation(
            why="orthogonal weights keep norms: without zero components nothing vanishes",
            dials={"usual": "orthogonal"},
            changes=("S2-5", "S4-35"),
        ),
        Perturbation(
            why="at gain 1 the weights do not make up for tanh", dials={"gain": 1.0}, changes=("S2-43",)
        ),
        Perturbation(
            why="slope 1 is a linear unit, through which everything passes",
            dials={"slope": 1.0, "usual": "orthogonal"},
            changes=("S2-44", "S4-21"),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        arms = {
            "ReLU, usual": ("relu", dials.usual, 1.0, 0.0),
            "ReLU, all on": ("relu", dials.usual, 1.0, dials.all_on),
            "ReLU, He": ("relu", "he", 1.0, 0.0),
            "tanh, usual": ("tanh", dials.usual, 1.0, 0.0),
            "tanh, gain": ("tanh", "xavier", dials.gain, 0.0),
            "sigmoid, Xavier": ("sigmoid", "xavier", 1.0, 0.0),
        }
        found = {}
        for number, (name, arm) in enumerate(run.track(arms.items())):
            pairs = [_columns(dials, *arm, run.torch(number, k)) for k in range(dials.nets)]
            found[name] = Columns(*np.array(pairs).T)
        return Measurement(
            parts=tuple(_parts(dials, found)),
            figure=Figure(
                title="Decades a layer",
                x="net",
                y="change of the backward signal, decades a layer",
                lines=(
                    bars("derivative", [float(c.derivative.mean()) for c in found.values()]),
                    bars("weights", [float(c.weight.mean()) for c in found.values()]),
                ),
                kind=Kind.BAR,
                labels=tuple(found),
            ),
            note='"All on": biases keep every pre-activation positive, so that no component is 0.',
        )


def _parts(dials: Dials, found: dict[str, Columns]) -> list[Part]:
    """What is said of each net."""
    unit = "decades a layer"
    kept = at_least(-dials.level)
    lost = at_most(-dials.level)
    sigmoid, tanh = found["sigmoid, Xavier"], found["tanh, usual"]
    return [
        Part(
            row="S2-5",
            says="a ReLU net in which no component is 0 does not vanish",
            estimate=found["ReLU, all on"].total,
            region=kept,
        ),
        Part(
            row="S2-43",
            says=f"a tanh net (gain {dials.gain:.3g}) multiplies the error by a fraction below 1",
            estimate=found["tanh, gain"].total,
            region=at_most(0.0),
        ),
        Part(
            row="S2-44",
            says="ReLU's derivative passes the error on in full",
            estimate=mean(found["ReLU, He"].derivative, unit=unit),
            region=near(0.0, dials.level),
        ),
        Part(
            row="S2-44",
            says="a ReLU net as usually drawn does not vanish",
            estimate=found["ReLU, usual"].total,
            region=kept,
        ),
        Part(
            row="S4-21",
            says="with ReLU, as usually drawn, vanishing is solved",
            estimate=found["ReLU, usual"].total,
            region=kept,
        ),
        Part(
            row="S4-19",
            says="in sigmoid nets the derivative takes more than the weights do (difference)",
            estimate=mean(sigmoid.derivative - sigmoid.weight, unit=unit),
            region=lost,
        ),
        Part(
            row="S4-19",
            says="in tanh nets, as usually drawn, it does too (difference)",
            estimate=mean(tanh.derivative - tanh.weight, unit=unit),
            region=lost,
        ),
        Part(
            row="S4-35",
            says="small weights, as usually drawn, contribute to vanishing",
            estimate=mean(found["ReLU, usual"].weight, unit=unit),
            region=lost,
            published=Published(value=0.5 * math.log10(1 / 3), source="Glorot and Bengio: n Var[W] = 1/3"),
        ),
    ]


def _columns(
    dials: Dials, activation: str, init: str, gain: float, on: float, generator: torch.Generator
) -> tuple[float, float]:
    """Mean decades a layer of one net: by derivatives, by weights."""
    f = relu(dials.slope) if activation == "relu" else ACTIVATIONS[activation]
    n = dials.width
    h = torch.randn(dials.samples, n, generator=generator, dtype=torch.float64)
    weights, slopes = [], []
    for _ in range(dials.depth):
        weight = torch.empty(n, n, dtype=torch.float64)
        fill(weight, init, generator, gain=gain)
        s = h @ weight.T
        if on:
            s = s + on * s.square().mean().sqrt()
        weights.append(weight)
        slopes.append(slope_of(f)(s))
        h = f(s)
    g = torch.randn(dials.samples, n, generator=generator, dtype=torch.float64)
    derivative = weight_column = 0.0
    for weight, slope in zip(reversed(weights), reversed(slopes), strict=True):
        d = slope * g
        after = d @ weight
        derivative += torch.log10(d.norm() / g.norm()).item()
        weight_column += torch.log10(after.norm() / d.norm()).item()
        g = after
    return derivative / dials.depth, weight_column / dials.depth
