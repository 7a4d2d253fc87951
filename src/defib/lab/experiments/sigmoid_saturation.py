"""Why does a deep sigmoid net first learn to silence its last hidden layer?

Claim
-----
Initialisation alone does not fully solve it: with the usual weights the last hidden layer
of a sigmoid net is soon driven into saturation at 0, while the layers before it are not
(Glorot and Bengio, their figure of activation values).

Prediction
----------
At first the last hidden layer's outputs are noise about 1/2 that tells nothing of the
input. Outputs b + W h do best without it: the output's bias learns the classes' shares, and
W h is pushed to 0. With tanh that needs no more than W = 0, for h is near 0 by itself; a
sigmoid's h is near 1/2, and W h goes to 0 as h does: saturation, where its derivative h (1
- h) is near 0 too and the layers below get no gradient. tanh nets do not show it.

Method
------
Sigmoid nets with torch's default weights and biases 0, SGD on digits; mean activation of
each hidden layer, mapped to [0, 1], as training goes on.

References:
----------
Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural
networks, section 3.1 and figure 2.
"""

from dataclasses import dataclass

import torch

from defib.lab.crowd import Crowd, train_crowd
from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import at_most, between, mean
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import ACTIVATIONS


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    depth: int = dial(5, "hidden layers")
    width: int = dial(64, "units of each", quick=32)
    members: int = dial(8, "nets", quick=5)
    stretches: int = dial(20, "stretches of training between which layers are looked at", quick=6)
    steps: int = dial(100, "steps of SGD in each", quick=80)
    rate: float = dial(0.5, "its learning rate")
    batch: int = dial(10, "samples of a step (the paper's)")
    activation: str = dial("sigmoid", "activation: sigmoid, or tanh")
    saturated: float = dial(0.1, "mean activation, as a share of its range, that counts as saturation")


class SigmoidSaturation(Experiment[Dials]):
    """Mean activations of each layer while a sigmoid net trains."""

    slug = "sigmoid-saturation"
    title = "Does training drive a sigmoid net's last hidden layer into saturation?"
    topic = Topic.INITIALISATION
    rows = ("S2-40",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="tanh is 0 in its linear middle: ignoring the layer needs no saturation",
            dials={"activation": "tanh"},
            changes=("S2-40",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        path = _means(dials, run)
        last, before = path[-1, :, -1], path[-1, :, :-1]
        steps = [k * dials.steps for k in range(len(path))]
        open_ = between(dials.saturated, 1 - dials.saturated)
        return Measurement(
            parts=(
                Part(
                    row="S2-40",
                    says="the usual initialisation begins in the middle: last hidden layer's mean at first",
                    estimate=mean(path[0, :, -1].numpy()),
                    region=open_,
                ),
                Part(
                    row="S2-40",
                    says="training drives it into saturation at 0",
                    estimate=mean(last.numpy()),
                    region=at_most(dials.saturated),
                ),
                *(
                    Part(
                        row="S2-40",
                        says=f"while hidden layer {number + 1} does not saturate",
                        estimate=mean(before[:, number].numpy()),
                        region=open_,
                    )
                    for number in range(dials.depth - 1)
                ),
            ),
            figure=Figure(
                title="Mean activation while the net trains",
                x="steps",
                y="mean, as a share of the range",
                lines=(
                    *(
                        line(f"hidden layer {number + 1}", steps, path[:, :, number].mean(1))
                        for number in range(dials.depth)
                    ),
                    line("saturated", (0, steps[-1]), (dials.saturated,) * 2, dashed=True),
                ),
            ),
            note="The paper's figure is from Shapeset-3x2; this is digits.",
        )


def _means(dials: Dials, run: LabRun) -> torch.Tensor:
    """Mean activation: shape (stretches + 1, members, depth)."""
    data = digits()
    f = ACTIVATIONS[dials.activation]
    sizes = (data.x.shape[1], *[dials.width] * dials.depth, 10)
    crowd = Crowd(dials.members, sizes, f, run.torch(0), init="default")
    with torch.no_grad():
        for bias in crowd.biases:
            bias.zero_()
    optimiser = torch.optim.SGD(crowd.parameters(), lr=dials.rate)
    batches = run.torch(1)
    found = []
    for stretch in run.track(range(dials.stretches + 1)):
        if stretch:
            steps = range(dials.steps)
            train_crowd(crowd, optimiser, data.x, data.y, batches, steps=steps, size=dials.batch)
        with torch.no_grad():
            means = torch.stack([f(s).double().mean((1, 2)) for s in crowd.states(data.x)[:-1]], 1)
        found.append((means + 1) / 2 if dials.activation == "tanh" else means)
    return torch.stack(found)
