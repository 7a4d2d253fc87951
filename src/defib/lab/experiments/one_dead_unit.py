"""Does a single dead unit stop a network from learning?

Claim
-----
If a single unit's derivative is zero, the network can still learn: a single dead cell does not
stop learning, and the other cells of its layer remain active.

Prediction
----------
The gradient of a layer is a sum over its units, one term each. The dead unit's term is 0; the
others are what they were. A layer of H units with one dead is a layer of H - 1.

Method
------
Nets with one hidden layer on the digits, SGD. The same nets and batches twice: whole, and
with the bias of one unit lowered until it is dead. Losses at the end, and the share of the
other units that fire on some sample after training.

References:
----------
Glorot, Bordes, Bengio 2011, Deep sparse rectifier neural networks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import Estimate, at_least, at_most, grouped_share, mean, paired_difference
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import batches
from defib.lab.stacks import dead, draw, fit


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(16, "networks", quick=8)
    width: int = dial(32, "hidden units")
    dead: int = dial(1, "hidden units whose bias is lowered")
    margin: float = dial(1.0, "how far below 0 their largest sum is put")
    rate: float = dial(0.1, "learning rate of SGD")
    batch: int = dial(64, "samples of a batch")
    steps: int = dial(400, "steps of training", quick=200)
    learnt: float = dial(0.5, "share of the first loss that must be gone for a net to have learnt")
    worse: float = dial(0.05, "difference of losses that counts as none")
    most: float = dial(0.9, "share of units that counts as the others")


class OneDeadUnit(Experiment[Dials]):
    """The same networks with and without a dead unit."""

    slug = "one-dead-unit"
    title = "Does a single dead unit stop a network from learning?"
    topic = Topic.DYING_RELU
    rows = ("S0-18", "S0-31", "S0-32")
    dials = Dials
    perturbations = (
        Perturbation(
            why="if the single unit is the whole layer nothing is left to learn features",
            dials={"width": 1},
            changes=("S0-18", "S0-31", "S0-32"),
        ),
        Perturbation(
            why="all but one of the units dead is another matter",
            dials={"dead": 31},
            changes=("S0-31",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        whole, _ = _trained(dials, run, 0)
        maimed, others = _trained(dials, run, dials.dead)
        gone = 1 - _end(maimed) / maimed[0]
        return Measurement(
            parts=(
                Part(
                    row="S0-18",
                    says="with a unit whose derivative is 0 the loss still falls: share of it that goes",
                    estimate=mean(gone),
                    region=at_least(dials.learnt),
                ),
                Part(
                    row="S0-31",
                    says="and it falls as far as without the dead unit; difference of the losses",
                    estimate=paired_difference(_end(maimed), _end(whole)),
                    region=at_most(dials.worse),
                ),
                Part(
                    row="S0-31",
                    says="which is not for want of learning: share of the loss that goes",
                    estimate=mean(gone),
                    region=at_least(dials.learnt),
                ),
                Part(
                    row="S0-32",
                    says="the other units of the layer remain active",
                    estimate=others,
                    region=at_least(dials.most),
                ),
            ),
            figure=Figure(
                title="Training loss with and without a dead unit",
                x="step",
                y="cross-entropy, median network",
                log_y=True,
                lines=(
                    line("whole", range(len(whole)), whole.median(1).values),
                    line(
                        f"{dials.dead} of {dials.width} units dead",
                        range(len(maimed)),
                        maimed.median(1).values,
                    ),
                ),
            ),
        )


def _trained(dials: Dials, run: LabRun, count: int) -> tuple[Tensor, Estimate]:
    """Losses, shape (steps, R), with ``count`` units dead; and the share of the others that live."""
    data = digits(centred=True)
    generator = run.torch(0)
    stack = draw(dials.networks, (data.x.shape[1], dials.width, 10), generator)
    with torch.no_grad():
        top = stack.sums(data.x, torch.relu)[0].amax(1, keepdim=True)
        stack.biases[0][..., :count] -= top[..., :count] + dials.margin
    optimiser = torch.optim.SGD(stack.parameters(), lr=dials.rate)
    order = list(batches(len(data.x), dials.batch, dials.steps, generator))
    losses = fit(stack, optimiser, data.x, data.y, run.track(order), torch.relu)
    with torch.no_grad():
        alive = ~dead(stack.sums(data.x, torch.relu)[0])[:, count:]
    return losses, grouped_share(alive.sum(1), torch.full((len(alive),), alive.shape[1]))


def _end(losses: Tensor) -> Tensor:
    """The mean loss of each network over the last tenth of the steps."""
    return losses[-max(1, len(losses) // 10) :].double().mean(0)
