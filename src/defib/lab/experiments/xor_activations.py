"""Which activations learn exclusive-or?

Claim
-----
XOR is "better learnt with plain ReLU" than with variants. The absolute value is good for
problems like XOR. Several activations in one layer work better than one kind.

Prediction
----------
|x1 - x2| is XOR: one unit of the absolute value suffices, which no single monotone unit can
do. With two hidden ReLU units a solution exists, but a unit that is off for all four
points, or on for all, has no way back: many starts fail. Activations that pass gradient on
both sides fail less often. A layer that has a smooth unit beside a ReLU one is between the
two kinds.

Method
------
Nets 2-H-1 as torch draws them, full-batch Adam on the squared error, many starts at once,
the same ones for every activation; a start succeeds if all four outputs are on the right
side of 1/2. Paired differences of success from ReLU's. Then nets with a single hidden unit.

References:
----------
Minsky and Papert 1969, Perceptrons; Horuz et al. 2025, The resurrection of the ReLU.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.crowd import Crowd
from defib.lab.data import xor
from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, paired_difference, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, bars
from defib.lab.nets import ACTIVATIONS, relu
from defib.nn import Mixed, NecroReLU, SugarReLU


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    starts: int = dial(400, "random starts of each activation", quick=120)
    hidden: int = dial(2, "H, hidden units")
    steps: int = dial(600, "full-batch steps of Adam", quick=300)
    rate: float = dial(0.05, "its learning rate", quick=0.1)
    rivals: tuple[str, ...] = dial(
        ("leaky", "necro", "sugar", "abs", "mixed", "tanh", "elu", "gelu", "softplus", "sigmoid"),
        "activations that ReLU is compared with",
        quick=("leaky", "necro", "abs", "mixed"),
    )
    variants: tuple[str, ...] = dial(("leaky", "necro", "abs"), "the variants that the claim is about")
    absolute: str = dial("abs", "the activation that solves it with one unit")
    mixture: tuple[str, ...] = dial(("relu", "gelu"), "activations of the groups of a mixed layer")
    slope: float = dial(0.1, "slope of leaky ReLU, forward and backward, and of NecroReLU, backward")
    better: float = dial(0.05, "share of starts by which one must lead to be called better")
    often: float = dial(0.25, "share of starts of a single unit that counts as solving it")


class XorActivations(Experiment[Dials]):
    """Success on exclusive-or by activation."""

    slug = "xor-activations"
    title = "Is XOR learned best with plain ReLU?"
    topic = Topic.ACTIVATIONS
    rows = ("S2-19", "S2-20", "S2-30")
    dials = Dials
    perturbations = (
        Perturbation(
            why="with many hidden units enough of them are well placed whatever the activation",
            dials={"hidden": 32},
            changes=("S2-19", "S2-30"),
        ),
        Perturbation(
            why="a single linear unit cannot separate XOR",
            dials={"absolute": "linear"},
            changes=("S2-20",),
        ),
        Perturbation(
            why="two groups of ReLU are ReLU", dials={"mixture": ("relu", "relu")}, changes=("S2-30",)
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        plain = _successes(dials, "relu", dials.hidden, run)
        rivals = dict.fromkeys((*dials.rivals, *dials.variants, "mixed"))
        won = {name: _successes(dials, name, dials.hidden, run) for name in run.track(rivals)}
        single = {name: _successes(dials, name, 1, run) for name in (dials.absolute, "relu")}
        lead = {name: paired_difference(plain, values) for name, values in won.items()}
        ones = {name: share(int(values.sum()), dials.starts) for name, values in single.items()}
        alone = {name: _successes(dials, name, dials.hidden, run) for name in dict.fromkeys(dials.mixture)}
        names = ("relu", *won)
        return Measurement(
            parts=(
                *(
                    Part(
                        row="S2-19",
                        says=f"XOR is learned at least as often with ReLU as with {name} (difference)",
                        estimate=lead[name],
                        region=at_least(0.0),
                    )
                    for name in dials.variants
                ),
                Part(
                    row="S2-20",
                    says=f"one unit of {dials.absolute} learns XOR (share of starts)",
                    estimate=ones[dials.absolute],
                    region=at_least(dials.often),
                ),
                Part(
                    row="S2-20",
                    says="which one ReLU unit does not",
                    estimate=ones["relu"],
                    region=at_most(dials.often),
                ),
                *(
                    Part(
                        row="S2-30",
                        says=f"{' and '.join(dials.mixture)} in one layer learn XOR more often than {name}",
                        estimate=paired_difference(won["mixed"], values),
                        region=at_least(dials.better),
                    )
                    for name, values in alone.items()
                ),
            ),
            figure=Figure(
                title=f"XOR learned, {dials.hidden} hidden units",
                x="activation",
                y="share of starts",
                lines=(bars("learned", [float(plain.mean()), *(float(v.mean()) for v in won.values())]),),
                kind=Kind.BAR,
                labels=names,
            ),
        )


def _activation(dials: Dials, name: str) -> Callable[[Tensor], Tensor]:
    if name == "mixed":
        return Mixed([_Named(dials, one) for one in dials.mixture])
    special: dict[str, Callable[[Tensor], Tensor]] = {
        "leaky": relu(dials.slope),
        "necro": NecroReLU(dials.slope),
        "sugar": SugarReLU(),
    }
    return special.get(name) or ACTIVATIONS[name]


class _Named(torch.nn.Module):
    """An activation of this experiment as a module, for a group of a mixed layer."""

    def __init__(self, dials: Dials, name: str) -> None:
        super().__init__()
        self.function = _activation(dials, name)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.function(x)
        return out


def _successes(dials: Dials, name: str, hidden: int, run: LabRun) -> Tensor:
    """Which starts learn all four points: 1.0 or 0.0, shape (starts,)."""
    x, y = xor()
    x = (x + 1) / 2
    crowd = Crowd(dials.starts, (2, hidden, 1), _activation(dials, name), run.torch(hidden), init="default")
    optimiser = torch.optim.Adam(crowd.parameters(), lr=dials.rate)
    for _ in range(dials.steps):
        optimiser.zero_grad()
        torch.autograd.backward((crowd(x) - y).square().mean((1, 2)).sum())
        optimiser.step()
    with torch.no_grad():
        right: Tensor = (crowd(x) > 0.5) == (y > 0.5)
        return right.all(1).flatten().double()
