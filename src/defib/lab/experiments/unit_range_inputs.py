"""Do inputs scaled to [0, 1] protect units, or kill them?

Claim
-----
With ordinary initialisation some share of the ReLU units is dead from the start. With inputs
on one scale a large step pushes a unit negative on all similar inputs at once. Inputs scaled
to [0, 1] cure dead units.

Prediction
----------
One step of gradient descent on sample i changes the sum of a unit on any input x by

    -eta delta_i (x_i . x + 1),

eta the learning rate, delta_i = dL/ds on sample i. If no input is negative, every kernel
x_i . x + 1 is at least 1: all sums move the same way, and a large step takes all of them
below 0 together. Centred inputs have kernels of both signs. At the start, too, w . x shares
the sign of sum(w) for inputs that are all positive and alike: some units are born dead.

Method
------
The digits, pixels in [0, 1] or centred. Units with He weights and bias 0 that are dead on
all training samples. The share of pairs of inputs with a positive kernel, and the share of
sums that one step on one sample lowers, where it lowers its own. Then nets with one hidden
layer, SGD with momentum, at several learning rates: dead units at the end.

References:
----------
LeCun, Bottou, Orr, Mueller 1998, Efficient BackProp: why inputs should be centred.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, exact, mean, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import batches
from defib.lab.stacks import dead, draw, fit


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(8, "networks trained", quick=2, paper=40)
    born: int = dial(200, "networks drawn, to count units dead at the start", quick=50)
    width: int = dial(64, "hidden units")
    pairs: int = dial(400, "inputs whose pairs are looked at")
    rates: tuple[float, ...] = dial((0.1, 0.3, 1.0), "learning rates; the last is the large one")
    momentum: float = dial(0.9, "momentum of SGD")
    batch: int = dial(64, "samples of a batch")
    steps: int = dial(200, "steps of training", quick=120)
    centred: bool = dial(False, "whether the inputs of the claim are centred after all")
    some: float = dial(0.005, "share of units that counts as some")
    together: float = dial(0.99, "share of inputs that counts as all similar ones")
    many: float = dial(0.25, "share of units that counts as a common death")


class UnitRangeInputs(Experiment[Dials]):
    """Digits in [0, 1] against centred digits."""

    slug = "unit-range-inputs"
    title = "Do inputs scaled to [0, 1] protect units, or kill them?"
    topic = Topic.DYING_RELU
    rows = ("S0-9", "S1-5", "S4-28")
    dials = Dials
    perturbations = (
        Perturbation(
            why="centred inputs have kernels of both signs, and no direction common to all",
            dials={"centred": True},
            changes=("S0-9", "S1-5", "S4-28"),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        data = digits(centred=dials.centred)
        units = dials.born * dials.width
        born = _born_dead(data.x, dials, run.torch(0))
        positive, lowered = _kernels(data.x[: dials.pairs])
        died = {rate: _trained(data.x, data.y, rate, dials, run.torch(1)) for rate in run.track(dials.rates)}
        control = digits(centred=True)
        safe = {rate: _trained(control.x, control.y, rate, dials, run.torch(1)) for rate in dials.rates}
        large = dials.rates[-1]
        at_start = share(born, units)
        return Measurement(
            parts=(
                Part(
                    row="S0-9",
                    says="some units are dead at the start",
                    estimate=at_start,
                    region=at_least(dials.some),
                ),
                Part(
                    row="S1-5",
                    says="all pairs of inputs have a positive kernel; share",
                    estimate=exact(positive, n=dials.pairs**2),
                    region=at_least(dials.together),
                ),
                Part(
                    row="S1-5",
                    says="a step that lowers a unit on one input lowers it on all; share",
                    estimate=exact(lowered, n=dials.pairs**2),
                    region=at_least(dials.together),
                ),
                Part(
                    row="S1-5",
                    says=f"large steps (rate {large:g}) kill many units",
                    estimate=mean(died[large]),
                    region=at_least(dials.many),
                ),
                Part(
                    row="S4-28",
                    says="with inputs in [0, 1] no unit is dead at the start",
                    estimate=at_start,
                    region=at_most(dials.some),
                ),
                Part(
                    row="S4-28",
                    says=f"nor after training at rate {large:g}",
                    estimate=mean(died[large]),
                    region=at_most(dials.some),
                ),
            ),
            figure=_figure(died, safe, dials),
        )


def _born_dead(x: Tensor, dials: Dials, generator: torch.Generator) -> int:
    """Units of fresh layers that are dead on all inputs."""
    stack = draw(dials.born, (x.shape[1], dials.width), generator)
    with torch.no_grad():
        return int(dead(stack.sums(x, torch.relu)[0]).sum())


def _kernels(x: Tensor) -> tuple[float, float]:
    """Share of pairs with x_i . x_j + 1 > 0; share of sums that a step down on sample i lowers.

    The second is measured: N equal units that fire on every sample, unit i takes a step of
    gradient descent on sample i, through ReLU and autograd, and its sums before and after are
    compared on all.

    Returns:
        The two shares, over pairs.
    """
    x = x.double()
    kernel = x @ x.T + 1
    weight = torch.zeros(len(x), x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.ones(len(x), dtype=torch.float64, requires_grad=True)
    before = weight @ x.T + bias[:, None]
    loss = torch.relu(before).diagonal().sum()
    by_weight, by_bias = torch.autograd.grad(loss, (weight, bias))
    after = (weight - by_weight) @ x.T + (bias - by_bias)[:, None]
    return float((kernel > 0).double().mean()), float((after < before).double().mean())


def _trained(x: Tensor, y: Tensor, rate: float, dials: Dials, generator: torch.Generator) -> list[float]:
    """Trains a stack; the share of each network's hidden units that is dead at the end."""
    stack = draw(dials.networks, (x.shape[1], dials.width, 10), generator)
    optimiser = torch.optim.SGD(stack.parameters(), lr=rate, momentum=dials.momentum)
    order = batches(len(x), dials.batch, dials.steps, generator)
    fit(stack, optimiser, x, y, order, torch.relu)
    with torch.no_grad():
        return list(dead(stack.sums(x, torch.relu)[0]).double().mean(1))


def _figure(died: dict[float, list[float]], safe: dict[float, list[float]], dials: Dials) -> Figure:
    lines = []
    named = "centred" if dials.centred else "in [0, 1]"
    for name, shares in ((f"inputs {named}", died), ("inputs centred", safe)):
        ends = [mean(s) for s in shares.values()]
        lines.append(
            line(
                name, shares, [e.value for e in ends], low=[e.low for e in ends], high=[e.high for e in ends]
            )
        )
    return Figure(
        title="Dead hidden units after training on the digits",
        x="learning rate",
        y="share of dead units",
        log_x=True,
        lines=tuple(lines),
    )
