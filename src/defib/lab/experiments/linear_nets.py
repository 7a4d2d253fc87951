"""Is a net of linear activations a linear function, and is its training linear too?

Claim
-----
If the activation is linear, the output is a linear function of the input, however many
layers there are.

Prediction
----------
W_L ... W_2 W_1 x is one matrix times x, so f(a x + (1 - a) y) = a f(x) + (1 - a) f(y). But
the loss is a product in the weights: training is not linear. With one hidden layer the
strength u of a mode s of the data grows along an S: from u0 to half of s it takes t = (tau
/ 2 s) ln((s - u0) / u0), where 1 / tau is the learning rate (Saxe et al.). A linear model
would take tau ln 2 / s from any start near 0.

Method
------
The largest relative deviation from that equation in deep nets, in 64 bits. Gradient descent
on u = a b with a small step for several strengths, half-time against the formula.

References:
----------
Saxe, McClelland, Ganguli 2014, Exact solutions to the nonlinear dynamics of learning in
deep linear neural networks.
"""

from dataclasses import dataclass

import numpy as np
import torch

from defib.lab.dials import dial
from defib.lab.estimate import at_most, exact, near
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import ACTIVATIONS, mlp


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    activation: str = dial("linear", "activation of the deep nets")
    nets: int = dial(50, "random nets", quick=10)
    depth: int = dial(6, "their hidden layers")
    width: int = dial(32, "units of each")
    rounding: float = dial(1e-10, "relative deviation that rounding may make")
    strengths: tuple[float, ...] = dial((1.0, 2.0, 3.0), "s, strengths of the modes that are learned")
    start: float = dial(1e-3, "u0, their first strength in the net")
    rate: float = dial(1e-3, "learning rate")
    miss: float = dial(0.01, "by how much, as a ratio, a half-time may miss the formula")


class LinearNets(Experiment[Dials]):
    """Linearity of the function, and times of learning."""

    slug = "linear-nets"
    title = "Is a deep net of linear units more than one matrix?"
    topic = Topic.ACTIVATIONS
    rows = ("S2-38",)
    dials = Dials
    perturbations = (
        Perturbation(why="ReLU is not linear", dials={"activation": "relu"}, changes=("S2-38",)),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        worst = max(_deviation(dials, run.torch(k)) for k in run.track(range(dials.nets)))
        paths = _learned(dials)
        strengths = np.array(dials.strengths)
        half = (paths < strengths / 2).sum(0) * dials.rate
        formula = np.log((strengths - dials.start) / dials.start) / (2 * strengths)
        every = max(1, len(paths) // 80)
        times = np.arange(len(paths))[::every] * dials.rate
        return Measurement(
            parts=(
                Part(
                    row="S2-38",
                    says="the output is a linear function: largest relative deviation",
                    estimate=exact(worst, n=dials.nets),
                    region=at_most(dials.rounding),
                ),
                *(
                    Part(
                        row="S2-38",
                        says=f"(not so its training: a mode of strength {s:g} takes the formula's {due:.3f})",
                        estimate=exact(took / due),
                        region=near(1.0, dials.miss),
                    )
                    for s, took, due in zip(strengths, half, formula, strict=True)
                ),
            ),
            figure=Figure(
                title="A linear net learns along an S, a linear model does not",
                x="time, steps times learning rate",
                y="share of the mode learned",
                lines=(
                    *(line(f"s = {s:g}", times, paths[::every, k] / s) for k, s in enumerate(strengths)),
                    *(
                        line(f"s = {s:g}, formula's half", (due, due), (0, 0.5), dashed=True)
                        for s, due in zip(strengths, formula, strict=True)
                    ),
                ),
            ),
        )


def _deviation(dials: Dials, generator: torch.Generator) -> float:
    """How far f(a x + (1 - a) y) is from a f(x) + (1 - a) f(y), over the size of f."""
    sizes = [dials.width] * (dials.depth + 1) + [4]
    f = mlp(sizes, ACTIVATIONS[dials.activation], generator, init="lecun", dtype=torch.float64)
    x, y = torch.randn(2, 64, dials.width, generator=generator, dtype=torch.float64)
    a = torch.rand(64, 1, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        gap = f(a * x + (1 - a) * y) - (a * f(x) + (1 - a) * f(y))
        return float(gap.abs().max() / f(x).abs().max())


def _learned(dials: Dials) -> "np.ndarray":
    """Strength of each mode after every step of gradient descent on (s - a b)^2 / 2, from a = b."""
    s = np.array(dials.strengths)
    a = np.full_like(s, np.sqrt(dials.start))
    steps = int(2 * np.log(s.max() / dials.start) / s.min() / dials.rate)
    found = np.empty((steps, len(s)))
    for step in range(steps):
        found[step] = a * a
        a = a + dials.rate * a * (s - a * a)  # a and b begin equal and stay so
    return found
