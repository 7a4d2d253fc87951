"""Which activations bring back a layer whose units are off?

Claim
-----
PReLU, ELU and leaky ReLU "don't just die off"; leaky ReLUs do not die. A net of NecroReLU
(ReLU forward, leaky backward) "can't die out of adaptability", and in some cases it works
better than leaky ReLU and better than the usual ReLU.

Prediction
----------
A leaky unit that is negative on all data gets gradient, so it is not dead, but it is a
linear unit with a small factor: its way back takes of order 1 / slope longer. NecroReLU
revives single units, whose neighbours still carry signals. Where the whole layer is off its
output stays 0: the next layer gets no features, so its weights get no gradient, and what
the surrogate passes back sums to about 0 over a batch. A leaky layer with the same slope
comes back there.

Method
------
Nets 64-H-H-10 on digits in [0, 1]. The first layer's biases are lowered: those of all units
but one, or of all. SGD with momentum; at the end the test accuracy, and the share of
first-layer units that are negative on all training data. Each activation has the same
starts. A net counts as back from an accuracy far above guessing; most must be.

References:
----------
Maas, Hannun, Ng 2013; Clevert, Unterthiner, Hochreiter 2016, ELU; He, Zhang, Ren, Sun 2015,
PReLU; Horuz et al. 2025, The resurrection of the ReLU.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from defib.lab.crowd import Crowd, MemberPReLU, train_crowd
from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import Estimate, at_least, median, paired_difference, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, bars
from defib.lab.nets import relu
from defib.nn import NecroReLU, SugarReLU


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    members: int = dial(24, "nets of each activation", quick=12)
    width: int = dial(32, "H, units of each hidden layer")
    steps: int = dial(500, "steps of SGD", quick=250)
    rate: float = dial(0.05, "its learning rate")
    momentum: float = dial(0.9, "its momentum")
    batch: int = dial(50, "samples of a step")
    some: int = dial(31, "units whose bias is lowered in the first case")
    some_by: float = dial(2.0, "by how much")
    all_by: float = dial(3.0, "by how much those of all units are lowered in the second case")
    slope: float = dial(0.1, "slope for negative inputs of leaky ReLU and, backward, of NecroReLU")
    small_slope: float = dial(0.01, "slope of the usual leaky ReLU")
    shown: bool = dial(True, "whether activations that no part is about are run for the figure", quick=False)
    back: float = dial(0.7, "test accuracy from which a net counts as back (guessing gives 0.1)")
    ahead: float = dial(0.01, "accuracy by which one must lead to be called better")


class ShiftedLayer(Experiment[Dials]):
    """Training after a first layer was pushed below 0."""

    slug = "shifted-layer"
    title = "Do leaky, ELU, PReLU and NecroReLU bring back units that are off?"
    topic = Topic.ACTIVATIONS
    rows = ("S2-16", "S2-25", "S2-26", "S4-31")
    dials = Dials
    perturbations = (
        Perturbation(
            why="a layer that is not shifted has nobody to bring back: every net learns",
            dials={"all_by": 0.0},
            changes=("S2-16", "S2-25", "S4-31"),
        ),
        Perturbation(
            why="with slope 0 NecroReLU and leaky ReLU are ReLU",
            dials={"slope": 0.0},
            changes=("S2-26",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        needed = {"some": ("relu", "necro"), "all": ("small leaky", "leaky", "necro", "elu", "prelu")}
        names = ("relu", "small leaky", "leaky", "prelu", "elu", "necro", "sugar")
        cases = [(case, name) for case in needed for name in names if dials.shown or name in needed[case]]
        found = {pair: _trained(dials, *pair, run) for pair in run.track(cases)}

        def scores(case: str, name: str) -> np.ndarray:
            return found[case, name][0]

        def back(case: str, name: str) -> Estimate:
            return share(int((scores(case, name) >= dials.back).sum()), dials.members)

        alive = at_least(0.5)
        drawn = [name for name in names if ("all", name) in found]
        return Measurement(
            parts=(
                *(
                    Part(
                        row="S2-16",
                        says=f"a layer of {label} that is off does not stay so: share of nets back",
                        estimate=back("all", name),
                        region=alive,
                    )
                    for name, label in (
                        ("elu", "ELU"),
                        ("prelu", "PReLU"),
                        ("small leaky", f"leaky ReLU ({dials.small_slope:g})"),
                    )
                ),
                Part(
                    row="S4-31",
                    says=f"leaky ReLU ({dials.small_slope:g}) does not die: share of nets back",
                    estimate=back("all", "small leaky"),
                    region=alive,
                ),
                Part(
                    row="S2-25",
                    says="units of NecroReLU come back where others still work: share off, ReLU's minus its",
                    estimate=paired_difference(found["some", "relu"][1], found["some", "necro"][1]),
                    region=at_least(0.0),
                ),
                Part(
                    row="S2-25",
                    says="a net of NecroReLU whose first layer is off throughout adapts: share of nets back",
                    estimate=back("all", "necro"),
                    region=alive,
                ),
                Part(
                    row="S2-26",
                    says="NecroReLU beats ReLU where all units but one are off: lead in accuracy",
                    estimate=median(scores("some", "necro") - scores("some", "relu")),
                    region=at_least(dials.ahead),
                ),
                Part(
                    row="S2-26",
                    says="it beats leaky ReLU of the same slope where a whole layer is off: lead in accuracy",
                    estimate=median(scores("all", "necro") - scores("all", "leaky")),
                    region=at_least(dials.ahead),
                ),
            ),
            figure=Figure(
                title="Digits after the first layer was pushed below 0",
                x="activation",
                y="test accuracy",
                lines=tuple(
                    bars(label, [float(scores(case, n).mean()) if (case, n) in found else 0.0 for n in drawn])
                    for case, label in (("some", "part of the layer"), ("all", "the whole layer"))
                ),
                kind=Kind.BAR,
                labels=tuple(drawn),
            ),
            note="Share of first-layer units negative on all data in the end: "
            + "; ".join(
                f"{case} lowered, {name} {off.mean():.2f}" for (case, name), (_, off) in found.items()
            ),
        )


def _activation(dials: Dials, name: str) -> Callable[[Tensor], Tensor]:
    every: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
        "relu": relu,
        "small leaky": lambda: relu(dials.small_slope),
        "leaky": lambda: relu(dials.slope),
        "prelu": lambda: MemberPReLU(dials.members),
        "elu": lambda: nn.functional.elu,
        "necro": lambda: NecroReLU(dials.slope),
        "sugar": SugarReLU,
    }
    return every[name]()


def _trained(dials: Dials, case: str, name: str, run: LabRun) -> tuple["np.ndarray", "np.ndarray"]:
    """Test accuracies, and shares of first-layer units negative on all training data."""
    data = digits(centred=False)
    sizes = (data.x.shape[1], dials.width, dials.width, 10)
    crowd = Crowd(dials.members, sizes, _activation(dials, name), run.torch(0))
    lowered, by = (dials.some, dials.some_by) if case == "some" else (dials.width, dials.all_by)
    with torch.no_grad():
        crowd.biases[0][..., :lowered] -= by
    optimiser = torch.optim.SGD(crowd.parameters(), lr=dials.rate, momentum=dials.momentum)
    train_crowd(crowd, optimiser, data.x, data.y, run.torch(1), steps=range(dials.steps), size=dials.batch)
    with torch.no_grad():
        off = (crowd.states(data.x)[0].amax(1) <= 0).double().mean(1)
    return crowd.accuracies(data.x_test, data.y_test).numpy(), off.numpy()
