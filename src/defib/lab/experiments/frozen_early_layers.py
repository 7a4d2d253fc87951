"""Do early layers that have not learned corrupt the whole net?

Claim
-----
Early layers are the building blocks: if they are inaccurate, the whole net "corrupts".

Prediction
----------
Random features are poorer features, not noise: with He weights they keep most of what tells
inputs apart, so a net whose first k layers stay at their first random weights loses
accuracy with k. It degrades; corrupted would mean near guessing.

Method
------
ReLU nets of several hidden layers on digits. The first k keep their random weights, all
others are trained with Adam; test accuracy for each k, many nets at once.

References:
----------
Jarrett, Kavukcuoglu, Ranzato, LeCun 2009; Rahimi and Recht 2008, on random features.
"""

from dataclasses import dataclass

import torch

from defib.lab.crowd import Crowd, train_crowd
from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, mean, paired_difference
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import relu


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    depth: int = dial(4, "hidden layers")
    frozen: tuple[int, ...] = dial((0, 1, 2, 3, 4), "how many are frozen, from none to all", quick=(0, 4))
    width: int = dial(64, "units of each", quick=32)
    members: int = dial(12, "nets of each kind", quick=6)
    steps: int = dial(600, "steps of Adam", quick=150)
    rate: float = dial(1e-3, "its learning rate", quick=3e-3)
    init: str = dial("he", "how weights are drawn")
    gain: float = dial(1.0, "gain of the weights of the frozen layers")
    guessing: float = dial(0.3, "accuracy up to which a net counts as corrupted (guessing gives 0.1)")


class FrozenEarlyLayers(Experiment[Dials]):
    """Training behind layers that keep their first weights."""

    slug = "frozen-early-layers"
    title = "Do early layers that do not learn corrupt the net?"
    topic = Topic.GRADIENTS
    rows = ("S4-17",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="weights of 0 let nothing through: now they do corrupt",
            dials={"gain": 0.0},
            changes=("S4-17",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        frozen = dials.frozen
        scores = {k: _accuracies(dials, k, run).numpy() for k in run.track(frozen)}
        means = [mean(scores[k]) for k in frozen]
        return Measurement(
            parts=(
                Part(
                    row="S4-17",
                    says="early layers that do not learn cost accuracy: fewest frozen minus most",
                    estimate=paired_difference(scores[frozen[0]], scores[frozen[-1]]),
                    region=at_least(0.0),
                ),
                Part(
                    row="S4-17",
                    says="with all hidden layers frozen the net is corrupted: its accuracy",
                    estimate=means[-1],
                    region=at_most(dials.guessing),
                ),
            ),
            figure=Figure(
                title="Accuracy on digits behind frozen layers",
                x="first layers that keep their random weights",
                y="test accuracy",
                lines=(
                    line(
                        "trained behind them",
                        frozen,
                        [e.value for e in means],
                        low=[e.low for e in means],
                        high=[e.high for e in means],
                    ),
                    line("corrupted", (0, dials.depth), (dials.guessing,) * 2, dashed=True),
                ),
            ),
        )


def _accuracies(dials: Dials, frozen: int, run: LabRun) -> torch.Tensor:
    """Test accuracies with the first ``frozen`` layers left as drawn."""
    data = digits()
    sizes = (data.x.shape[1], *[dials.width] * dials.depth, 10)
    crowd = Crowd(dials.members, sizes, relu(), run.torch(0), init=dials.init)
    with torch.no_grad():
        for weight in list(crowd.weights)[:frozen]:
            weight.mul_(dials.gain)
    learning = [*list(crowd.weights)[frozen:], *list(crowd.biases)[frozen:]]
    for parameter in crowd.parameters():
        parameter.requires_grad_(False)
    for parameter in learning:
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(learning, lr=dials.rate)
    train_crowd(crowd, optimiser, data.x, data.y, run.torch(1), steps=range(dials.steps), size=64)
    return crowd.accuracies(data.x_test, data.y_test)
