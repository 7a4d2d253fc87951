"""Do dead units stay useless when the task changes?

Claim
-----
A dead unit cannot recover. A unit that is never activated is useless forever.

Prediction
----------
Dead means negative for all inputs of today. If tomorrow's inputs are others, the same weights
may give a positive sum: units of the first layer, which nothing revives while the data stay,
can fire again. Yet over many tasks nets of ReLUs gather dormant units and learn ever less
(loss of plasticity). A unit need not stay useless either: give it fresh incoming weights
and outgoing weights of 0, and it costs nothing today and can be of use tomorrow (recycling,
ReDo: every unit whose mean output is at most tau times the mean of its layer).

Method
------
A sequence of tasks: the digits with pixels and labels permuted, every network and every task
in its own way; one hidden net trained on with Adam from task to task, with and without
recycling at the end of each. Accuracy on each batch before it is learnt; the share of dormant
units; units of the first layer dead on all inputs of one task that fire on some of the next.

References:
----------
Sokar, Agarwal, Castro, Evci 2023, The dormant neuron phenomenon in deep reinforcement learning
(score and recycling; their games are not repeated here). Dohare et al. 2024, Loss of plasticity
in deep continual learning.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import at_most, grouped_share, mean, paired_difference
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import batches
from defib.lab.stacks import Stack, cross_entropy, dead, draw

HIDDEN = 2


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(8, "networks", paper=20)
    tasks: int = dial(30, "tasks, one after the other", quick=15, paper=200)
    late: int = dial(5, "last tasks over which accuracy is taken", quick=4)
    width: int = dial(64, "units of each of the two hidden layers")
    rate: float = dial(0.01, "learning rate of Adam")
    batch: int = dial(32, "samples of a batch")
    steps: int = dial(43, "batches of a task", quick=30)
    tau: float = dial(0.025, "mean output over that of the layer up to which a unit is dormant")
    permute: bool = dial(True, "whether the pixels of a new task are permuted")
    some: float = dial(0.1, "share of units that counts as some")
    better: float = dial(0.005, "difference of accuracies that counts as none")


@dataclass(frozen=True, kw_only=True)
class Story:
    """What happened over the tasks.

    Attributes:
        accuracy: Of each network on each task, before each batch was learnt; shape (T, R).
        dormant: Share of dormant units at the end of each task, shape (T, R).
        dead: Units of each network's first layer that were dead on all inputs of a task, shape (R,).
        back: Of these, units that fire on some input of the next.
    """

    accuracy: Tensor
    dormant: Tensor
    dead: Tensor
    back: Tensor


class ChangingTasks(Experiment[Dials]):
    """One network, many tasks."""

    slug = "changing-tasks"
    title = "Do dead units stay useless when the task changes?"
    topic = Topic.DYING_RELU
    rows = ("S2-2", "S4-26")
    dials = Dials
    perturbations = (
        Perturbation(
            why="while the inputs stay as they are a dead unit of the first layer stays dead",
            dials={"permute": False},
            changes=("S4-26",),
        ),
        Perturbation(
            why="where no unit counts as dormant nothing is recycled",
            dials={"tau": -1.0},
            changes=("S2-2",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        told = run.track(("left alone", "recycled"))
        stories = {name: _live(dials, run, recycle=name == "recycled") for name in told}
        alone, recycled = stories["left alone"], stories["recycled"]
        ends = {name: story.accuracy[-dials.late :].mean(0) for name, story in stories.items()}
        first = mean(alone.accuracy[: dials.late].mean(0))
        return Measurement(
            parts=(
                Part(
                    row="S4-26",
                    says="units of the first layer that are dead on one task stay dead on the next; "
                    "share that fires",
                    estimate=grouped_share(alone.back, alone.dead),
                    region=at_most(dials.some),
                ),
                Part(
                    row="S2-2",
                    says="dormant units are lost: accuracy with recycling minus accuracy without",
                    estimate=paired_difference(ends["recycled"], ends["left alone"]),
                    region=at_most(dials.better),
                ),
            ),
            figure=Figure(
                title="Dormant units over a sequence of tasks",
                x="task",
                y="share of hidden units",
                lines=tuple(
                    line(name, range(1, dials.tasks + 1), story.dormant.mean(1))
                    for name, story in stories.items()
                ),
            ),
            note=f"Accuracy while learning: {first.value:.3f} on the first {dials.late} tasks; on the last "
            f"{dials.late}, {float(ends['left alone'].mean()):.3f} left alone and "
            f"{float(ends['recycled'].mean()):.3f} recycled. Dormant at the end: "
            f"{float(alone.dormant[-1].mean()):.2f} and {float(recycled.dormant[-1].mean()):.2f}.",
        )


@dataclass(frozen=True, kw_only=True)
class Task:
    """How the digits are shuffled for each network.

    Attributes:
        pixels: Order of the pixels, shape (R, D).
        labels: New label of each class, shape (R, C).
    """

    pixels: Tensor
    labels: Tensor

    def inputs(self, x: Tensor) -> Tensor:
        """Of (N, D) makes (R, N, D)."""
        return x[:, self.pixels].transpose(0, 1)


def _task(dials: Dials, size: int, generator: torch.Generator) -> Task:
    pixels = torch.rand(dials.networks, size, generator=generator).argsort(1)
    if not dials.permute:
        pixels = torch.arange(size).expand(dials.networks, size)
    return Task(pixels=pixels, labels=torch.rand(dials.networks, 10, generator=generator).argsort(1))


def _live(dials: Dials, run: LabRun, *, recycle: bool) -> Story:
    """Trains through all tasks; the draws are the same with and without recycling."""
    data = digits(centred=False)
    generator, fresh = run.torch(0), run.torch(1)
    stack = draw(dials.networks, (64, *[dials.width] * HIDDEN, 10), generator)
    optimiser = torch.optim.Adam(stack.parameters(), lr=dials.rate)
    accuracy, dormant = [], []
    count, back = torch.zeros(2, dials.networks)
    was = torch.zeros(dials.networks, dials.width, dtype=torch.bool)
    for _ in range(dials.tasks):
        task = _task(dials, data.x.shape[1], generator)
        now = _hidden(stack, task.inputs(data.x))[0]
        back += (was & ~dead(now)).sum(1)
        order = batches(len(data.x), dials.batch, dials.steps, generator)
        right = []
        for chosen in order:
            outputs = stack.sums(task.inputs(data.x[chosen]), torch.relu)[-1]
            labels = task.labels[:, data.y[chosen]]
            right.append((outputs.detach().argmax(2) == labels).float().mean(1))
            optimiser.zero_grad()
            torch.autograd.backward(cross_entropy(outputs, labels).sum())
            optimiser.step()
        sums = _hidden(stack, task.inputs(data.x))
        asleep = [_dormant(s, dials.tau) for s in sums]
        accuracy.append(torch.stack(right).mean(0))
        dormant.append(torch.stack([a.float().mean(1) for a in asleep]).mean(0))
        was = dead(sums[0])
        count += was.sum(1)
        if recycle:
            _recycle(stack, optimiser, asleep, fresh)
    # The dead of the last task have no next one to come back on.
    return Story(
        accuracy=torch.stack(accuracy).double(),
        dormant=torch.stack(dormant),
        dead=count - was.sum(1),
        back=back,
    )


def _hidden(stack: Stack, x: Tensor) -> list[Tensor]:
    """Sums of the hidden layers."""
    with torch.no_grad():
        return stack.sums(x, torch.relu)[:-1]


def _dormant(sums: Tensor, tau: float) -> Tensor:
    """Units whose mean output is at most tau times the mean of their layer: (R, N, H) to (R, H)."""
    size = torch.relu(sums).mean(1)
    return size <= tau * size.mean(1, keepdim=True)


def _recycle(
    stack: Stack, optimiser: torch.optim.Optimizer, asleep: list[Tensor], generator: torch.Generator
) -> None:
    """Fresh incoming weights (He), bias 0, outgoing weights 0, empty moments, for units asleep."""
    with torch.no_grad():
        for layer, units in enumerate(asleep):
            weight, bias = stack.weights[layer], stack.biases[layer]
            drawn = torch.randn(weight.shape, generator=generator) * math.sqrt(2 / weight.shape[2])
            weight[units] = drawn[units]
            bias[:, 0][units] = 0.0
            stack.weights[layer + 1].transpose(1, 2)[units] = 0.0
            for moment in ("exp_avg", "exp_avg_sq"):
                optimiser.state[weight][moment][units] = 0.0
                optimiser.state[bias][moment][:, 0][units] = 0.0
