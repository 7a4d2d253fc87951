"""How many zeros does a ReLU layer have, and does L1 make them more?

Claim
-----
After uniform initialisation around half of the hidden ReLU outputs are zeros. That share grows
with sparsity-inducing regularisation.

Prediction
----------
With symmetric weights and no biases the sum of every unit is positive or negative with
probability 1/2, whatever the input: half of all outputs are zeros, on average over nets. A
penalty on the mean absolute output of the hidden units (L1) pushes every active output down
by the same force, small ones to exactly 0.

Method
------
Nets with three hidden layers on centred digits, uniform weights of He's variance: the share of
zeros at the start; then training with more and more penalty; the share of zeros on test
digits, network by network against that without penalty.

References:
----------
Glorot, Bordes, Bengio 2011, Deep sparse rectifier neural networks: around 50 % of the hidden
units' outputs are real zeros after uniform initialisation, section 3.1.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.data import Split, digits
from defib.lab.dials import dial
from defib.lab.estimate import at_least, mean, near, paired_difference
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Published, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import batches, relu
from defib.lab.stacks import Stack, draw, fit


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(10, "networks", quick=4)
    started: int = dial(60, "networks looked at before training", quick=20)
    width: int = dial(64, "units of each hidden layer")
    layers: int = dial(3, "hidden layers")
    penalties: tuple[float, ...] = dial((0.0, 1e-3, 1e-2), "weight of the penalty; the first is the control")
    rate: float = dial(0.05, "learning rate of SGD")
    momentum: float = dial(0.9, "momentum of SGD")
    batch: int = dial(64, "samples of a batch")
    steps: int = dial(400, "steps of training", quick=100)
    slope: float = dial(0.0, "slope of the activation for negative inputs; 0 is ReLU")
    around: float = dial(0.05, "distance from a half that counts as around it")
    grown: float = dial(0.02, "difference of shares that counts as growth")


class SparsityShare(Experiment[Dials]):
    """Counting zeros."""

    slug = "sparsity-share"
    title = "How many zeros does a ReLU layer have, and does L1 make them more?"
    topic = Topic.SPARSITY
    rows = ("S2-7", "S2-8")
    dials = Dials
    perturbations = (
        Perturbation(
            why="a leaky ReLU has no zeros, with or without penalty",
            dials={"slope": 0.01},
            changes=("S2-7", "S2-8"),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        data = digits(centred=True)
        fresh = _zeros(_stack(dials.started, dials, run.torch(0)), data, dials)
        ends = {weight: _trained(weight, data, dials, run) for weight in run.track(dials.penalties)}
        control = ends[dials.penalties[0]]
        estimates = [mean(shares) for shares in ends.values()]
        return Measurement(
            parts=(
                Part(
                    row="S2-7",
                    says="half of the outputs of a fresh net are zeros",
                    estimate=mean(fresh),
                    region=near(0.5, dials.around),
                    published=Published(value=0.5, source="Glorot, Bordes, Bengio 2011, section 3.1"),
                ),
                *(
                    Part(
                        row="S2-8",
                        says=f"L1 of {weight:g} adds zeros; difference of the shares",
                        estimate=paired_difference(ends[weight], control),
                        region=at_least(dials.grown),
                    )
                    for weight in dials.penalties[1:]
                ),
            ),
            figure=Figure(
                title="Zeros among the hidden outputs on test digits",
                x="weight of the L1 penalty, in units of the largest",
                y="share of zeros",
                lines=(
                    line(
                        "after training",
                        [weight / (dials.penalties[-1] or 1.0) for weight in dials.penalties],
                        [e.value for e in estimates],
                        low=[e.low for e in estimates],
                        high=[e.high for e in estimates],
                    ),
                    line("half, as at the start", (0, 1), (0.5, 0.5), dashed=True),
                ),
            ),
        )


def _stack(count: int, dials: Dials, generator: torch.Generator) -> Stack:
    """Networks with uniform weights of variance 2 / fan-in: sqrt(6) times torch's default bound."""
    sizes = (64, *[dials.width] * dials.layers, 10)
    return draw(count, sizes, generator, init="default", gain=math.sqrt(6))


def _zeros(stack: Stack, data: Split, dials: Dials) -> Tensor:
    """The share of zeros among the hidden outputs on test digits, shape (R,)."""
    act = relu(dials.slope)
    with torch.no_grad():
        hidden = [act(s) for s in stack.sums(data.x_test, act)[:-1]]
    return torch.stack([(h == 0).double().mean((1, 2)) for h in hidden]).mean(0)


def _trained(weight: float, data: Split, dials: Dials, run: LabRun) -> Tensor:
    """The share of zeros after training, shape (R,)."""
    generator = run.torch(1)
    stack = _stack(dials.networks, dials, generator)
    optimiser = torch.optim.SGD(stack.parameters(), lr=dials.rate, momentum=dials.momentum)
    order = batches(len(data.x), dials.batch, dials.steps, generator)
    fit(stack, optimiser, data.x, data.y, order, relu(dials.slope), penalty=weight)
    return _zeros(stack, data, dials)
