"""What made dead units dead: the bias, the weights, the inputs?

Claim
-----
A large negative bias causes dead units, since the weights cannot compensate for it. Negative
weights or inputs make a ReLU's input negative; it does not happen often that the weighted
sum is negative. A dead unit puts out the same value for almost all inputs; its outputs are
always negative.

Prediction
----------
s = w x + b. With inputs in [0, 1], b <= -sum of the positive weights kills for certain; so does
w <= 0 with b <= 0. Which of them does kill in training is found by changing one thing at a time
(a counterfactual): b set to 0; negative weights set to 0; inputs centred. By symmetry half
of all sums are negative in a fresh net. A dead ReLU puts out 0, which is not negative.

Method
------
Nets with one hidden layer on the digits, pixels in [0, 1], trained with a rate that kills;
each unit that training killed is changed in one respect and looked at again. Their outputs
on test digits. The sums of fresh nets on centred digits. The two sure ways to kill, planted.

References:
----------
Lu, Shin, Su, Karniadakis 2019, Dying ReLU and initialization (bias and input distribution).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import Estimate, Region, at_least, at_most, grouped_share, mean, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, bars
from defib.lab.nets import batches, relu
from defib.lab.stacks import Stack, dead, draw, fit


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(8, "networks trained", quick=4, paper=40)
    width: int = dial(64, "hidden units")
    rate: float = dial(0.5, "learning rate of SGD")
    momentum: float = dial(0.9, "momentum of SGD")
    batch: int = dial(32, "samples of a batch")
    steps: int = dial(300, "steps of training", quick=200)
    lowered: float = dial(0.0, "what is taken off all biases before training")
    skew: float = dial(0.0, "mean of a fresh net's weights, in deviations")
    slope: float = dial(0.0, "slope of the activation for negative inputs; 0 is ReLU")
    most: float = dial(0.5, "share of units that counts as the usual case")
    almost_all: float = dial(0.95, "share that counts as almost all")
    seldom: float = dial(0.1, "share of sums that counts as not often")


@dataclass(frozen=True, kw_only=True)
class Autopsy:
    """Of the U units that training killed, shape (U,).

    Attributes:
        of: The network of each.
        bias: Whether b = 0 revives it.
        weights: Whether negative weights set to 0 do.
        inputs: Whether centred inputs do.
        same: Share of its outputs on test inputs that equal their most frequent value.
        negative: Whether it puts out something negative on some training input.
    """

    of: Tensor
    bias: Tensor
    weights: Tensor
    inputs: Tensor
    same: Tensor
    negative: Tensor

    def share(self, which: Tensor) -> Estimate:
        """The share of the dead; a network is one repetition."""
        return grouped_share(torch.bincount(self.of, which.double()), torch.bincount(self.of))

    def sameness(self) -> Estimate:
        """The mean of ``same``, over networks that have dead units."""
        counts = torch.bincount(self.of)
        return mean((torch.bincount(self.of, self.same) / counts)[counts > 0])


class CauseOfDeath(Experiment[Dials]):
    """Changing one thing at a time in units that training killed."""

    slug = "cause-of-death"
    title = "What made dead units dead: the bias, the weights, the inputs?"
    topic = Topic.DYING_RELU
    rows = ("S1-10", "S4-23", "S4-24", "S4-25", "S4-27")
    dials = Dials
    perturbations = (
        Perturbation(
            why="where all biases start far below 0 the bias is what kills",
            dials={"lowered": 30.0},
            changes=("S4-23",),
        ),
        Perturbation(
            why="a leaky unit that is negative everywhere puts out negative values, and different ones",
            dials={"slope": 0.01},
            changes=("S1-10", "S4-25"),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        found = _autopsy(dials, run.torch(0))
        signs = _planted(dials, run.torch(1))
        negative_sums = _fresh(dials, run.torch(2))
        many, all_ = at_least(dials.most), at_least(dials.almost_all)

        def part(row: str, says: str, estimate: Estimate, region: Region) -> Part:
            return Part(row=row, says=says, estimate=estimate, region=region)

        return Measurement(
            parts=(
                part(
                    "S1-10",
                    "dead units put out negative values; share that does",
                    found.share(found.negative),
                    all_,
                ),
                part("S4-23", "a bias below minus the positive weights kills; share", signs["bias"], all_),
                part(
                    "S4-23",
                    "it is the usual cause: b = 0 revives most dead units",
                    found.share(found.bias),
                    many,
                ),
                part(
                    "S4-24",
                    "negative weights make the sums of positive inputs negative",
                    signs["weights"],
                    all_,
                ),
                part(
                    "S4-24", "negative inputs make those of positive weights negative", signs["inputs"], all_
                ),
                part(
                    "S4-24",
                    "it is the usual cause: without negative weights most dead units fire",
                    found.share(found.weights),
                    many,
                ),
                part(
                    "S4-25",
                    "units dead in training put out one value for almost all new inputs",
                    found.sameness(),
                    all_,
                ),
                part(
                    "S4-27",
                    "few weighted sums of a fresh net are negative",
                    negative_sums,
                    at_most(dials.seldom),
                ),
            ),
            figure=_figure(found),
            note=f"Training killed {len(found.of)} of {dials.networks * dials.width} units.",
        )


def _autopsy(dials: Dials, generator: torch.Generator) -> Autopsy:
    """Trains, and changes one thing at a time in each dead unit.

    Letters: R networks, N samples, U dead units.

    Returns:
        What revived how many.
    """
    data, middle = digits(centred=False), digits(centred=False).x.mean(0)
    act = relu(dials.slope)
    stack = draw(dials.networks, (data.x.shape[1], dials.width, 10), generator)
    with torch.no_grad():
        stack.biases[0].sub_(dials.lowered)
    optimiser = torch.optim.SGD(stack.parameters(), lr=dials.rate, momentum=dials.momentum)
    order = batches(len(data.x), dials.batch, dials.steps, generator)
    fit(stack, optimiser, data.x, data.y, order, act)
    with torch.no_grad():
        gone = dead(stack.sums(data.x, act)[0])
        w, b = stack.weights[0][gone], stack.biases[0][:, 0][gone]

        def revived(inputs: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
            return (inputs @ weights.T + bias > 0).any(0)

        outputs = act(data.x_test @ w.T + b)
        usual = outputs.mode(0).values
        return Autopsy(
            of=gone.nonzero()[:, 0],
            bias=revived(data.x, w, torch.zeros_like(b)),
            weights=revived(data.x, w.clamp(min=0), b),
            inputs=revived(data.x - middle, w, b),
            same=(outputs == usual).double().mean(0),
            negative=(act(data.x @ w.T + b) < 0).any(0),
        )


def _planted(dials: Dials, generator: torch.Generator) -> dict[str, Estimate]:
    """Units dead or sums negative for certain, by what was planted: share of those that are."""
    x = digits(centred=False).x
    stack: Stack = draw(dials.networks, (x.shape[1], dials.width), generator)
    with torch.no_grad():
        weight = stack.weights[0].flatten(0, 1)
        bias = -weight.clamp(min=0).sum(1)
        killed = (x @ weight.T + bias <= 0).all(0)
        down = (x @ -weight.abs().T < 0).all(0)
        turned = (-x @ weight.abs().T < 0).all(0)
    n = len(weight)
    return {
        name: share(int(hits.sum()), n)
        for name, hits in (("bias", killed), ("weights", down), ("inputs", turned))
    }


def _fresh(dials: Dials, generator: torch.Generator) -> Estimate:
    """The share of negative sums in fresh networks, centred inputs; the mean over networks."""
    x = digits(centred=True).x
    stack = draw(dials.networks, (x.shape[1], dials.width), generator)
    with torch.no_grad():
        stack.weights[0].add_(dials.skew * stack.weights[0].std())
        sums = stack.sums(x, torch.relu)[0]
    return mean((sums < 0).double().mean((1, 2)))


def _figure(found: Autopsy) -> Figure:
    return Figure(
        title="What revives units that training killed",
        x="change of one thing",
        y="share revived",
        kind=Kind.BAR,
        labels=("bias set to 0", "negative weights set to 0", "inputs centred"),
        lines=(
            bars("dead units", [found.share(w).value for w in (found.bias, found.weights, found.inputs)]),
        ),
    )
