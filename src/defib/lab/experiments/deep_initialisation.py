"""Does a deep net train only with an initialisation that fits its activation?

Claim
-----
The initialisation must match the activation. Neither ReLU alone nor initialisation alone
fully solves vanishing gradients.

Prediction
----------
Through 16 layers even a small mismatch adds up: ReLU with torch's default weights loses 6
decades and does not move from the loss ln 10 of a constant guess; with He's it trains; tanh
prefers Xavier's. LSUV divides each layer's weights by the deviation of its outputs on data,
which fits any activation. The sigmoid has no fitting size: weights that keep gradients
saturate it, so no initialisation trains it at this depth.

Method
------
Nets of 16 layers on digits, SGD, same number of steps for each activation and each
initialisation; mean loss at the end. For LSUV also: how many divisions a layer needs.

References:
----------
Mishkin and Matas 2016, All you need is a good init; Glorot and Bengio 2010; He, Zhang, Ren,
Sun 2015.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from defib.lab.crowd import Crowd, train_crowd
from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import Region, at_least, at_most, exact, mean
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Published, Topic
from defib.lab.figure import Figure, Kind, bars
from defib.lab.nets import ACTIVATIONS
from defib.lab.stacks import cross_entropy


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    depth: int = dial(16, "hidden layers", quick=12, paper=20)
    width: int = dial(48, "units of each", quick=40, paper=100)
    members: int = dial(8, "nets of each kind", quick=6)
    steps: int = dial(300, "steps of SGD", quick=90)
    rate: float = dial(0.01, "its learning rate", quick=0.02)
    batch: int = dial(64, "samples of a step", quick=32)
    inits: tuple[str, ...] = dial(
        ("default", "xavier", "he", "orthogonal", "lsuv"), "initialisations", quick=("default", "he", "lsuv")
    )
    unmatched: str = dial("default", "the initialisation that does not fit ReLU")
    activations: tuple[str, ...] = dial(("relu", "tanh", "sigmoid"), "activations")
    learned: float = dial(0.75, "loss, as a share of ln 10, below which a net counts as learning")
    stuck: float = dial(0.9, "and above which it counts as stuck")
    close: float = dial(0.01, "distance of a variance from 1 at which LSUV is done")


class DeepInitialisation(Experiment[Dials]):
    """Activation against initialisation at sixteen layers."""

    slug = "deep-initialisation"
    title = "Which initialisation trains which activation at sixteen layers?"
    topic = Topic.INITIALISATION
    rows = ("S2-31", "S2-40")
    dials = Dials
    perturbations = (
        Perturbation(
            why="two layers forgive a mismatch",
            dials={"depth": 2},
            changes=("S2-31", "S2-40"),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        shown = [(f, how) for f in dials.activations for how in dials.inits]
        needed = [("relu", "he"), ("relu", dials.unmatched), ("relu", "lsuv"), ("tanh", "lsuv")]
        pairs = dict.fromkeys((*shown, *needed, *(("sigmoid", how) for how in dials.inits)))
        ends = {pair: _losses(dials, *pair, run) for pair in run.track(pairs)}
        rounds = max(_divisions(dials, f, run) for f in dials.activations)
        best = min((how for how in dials.inits), key=lambda how: float(ends["sigmoid", how].mean()))
        learned, stuck = at_most(dials.learned), at_least(dials.stuck)

        def part(row: str, says: str, pair: tuple[str, str], region: Region) -> Part:
            return Part(row=row, says=f"{says}: loss over ln 10", estimate=mean(ends[pair]), region=region)

        return Measurement(
            parts=(
                part("S2-31", "ReLU trains with He's weights", ("relu", "he"), learned),
                part(
                    "S2-31", f"ReLU does not with {dials.unmatched} weights", ("relu", dials.unmatched), stuck
                ),
                part("S2-31", "LSUV fits tanh", ("tanh", "lsuv"), learned),
                part("S2-31", "and ReLU", ("relu", "lsuv"), learned),
                Part(
                    row="S2-31",
                    says="which takes it at most ten divisions a layer",
                    estimate=exact(rounds, unit="divisions"),
                    region=at_most(10.0),
                    published=Published(value=10.0, source="Mishkin and Matas 2016: the most they allow"),
                ),
                part(
                    "S2-40", f"the sigmoid trains with none of them (best: {best})", ("sigmoid", best), stuck
                ),
                part("S2-40", "nor is ReLU enough", ("relu", dials.unmatched), stuck),
            ),
            figure=Figure(
                title=f"Loss over ln 10 after {dials.steps} steps, {dials.depth} layers",
                x="initialisation",
                y="loss / ln 10",
                lines=tuple(
                    bars(f, [float(ends[f, how].mean()) for how in dials.inits]) for f in dials.activations
                ),
                kind=Kind.BAR,
                labels=dials.inits,
            ),
        )


def _crowd(dials: Dials, activation: str, how: str, run: LabRun) -> tuple[Crowd, int]:
    """Nets under that initialisation, and the most divisions that LSUV made in a layer."""
    data = digits()
    sizes = (data.x.shape[1], *[dials.width] * dials.depth, 10)
    init = "orthogonal" if how == "lsuv" else how
    crowd = Crowd(dials.members, sizes, ACTIVATIONS[activation], run.torch(0), init=init)
    most = 0
    h = data.x[:256].expand(dials.members, -1, -1)
    with torch.no_grad():
        for weight in crowd.weights if how == "lsuv" else ():
            s = h @ weight.transpose(1, 2)
            for number in range(1, 100):
                deviation = s.std((1, 2), keepdim=True)
                if ((deviation.square() - 1).abs() < dials.close).all():
                    break
                weight.div_(deviation)
                s = h @ weight.transpose(1, 2)
                most = max(most, number)
            h = crowd.activation(s)
    return crowd, most


def _divisions(dials: Dials, activation: str, run: LabRun) -> int:
    return _crowd(dials, activation, "lsuv", run)[1]


def _losses(dials: Dials, activation: str, how: str, run: LabRun) -> "np.ndarray":
    """Each net's loss over ln 10 after training; a loss that is not finite counts as ten times that."""
    data = digits()
    crowd, _ = _crowd(dials, activation, how, run)
    optimiser = torch.optim.SGD(crowd.parameters(), lr=dials.rate, momentum=0.9)
    steps = range(dials.steps)
    train_crowd(crowd, optimiser, data.x, data.y, run.torch(1), steps=steps, size=dials.batch)
    with torch.no_grad():
        ends = cross_entropy(crowd(data.x), data.y).double() / math.log(10)
    return ends.nan_to_num(nan=10.0, posinf=10.0).clamp(max=10.0).numpy()
