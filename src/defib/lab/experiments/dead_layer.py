"""What still learns when a whole hidden layer is dead?

Claim
-----
A network whose whole hidden layer is dead learns nothing. Without momentum, decay or the
like, its weights do not change at all. Learning stops. Or, more carefully: the zeros stop
only what lies upstream of the layer; what lies downstream may continue to learn.

Prediction
----------
A dead layer puts out 0 for every input, so the output is a constant c, and no gradient
passes below it. The layers above still have biases, and through them c learns: the loss
falls to that of the best constant, min over c of mean (c - y)^2 = Var(y), and no further.
Around a skip connection the gradient passes, and the layers below learn too.

Method
------
Regression, three hidden ReLU layers, the biases of the second lowered until all its sums
are negative; gradient descent without momentum and decay on the full batch. The largest
change of any parameter upstream of the dead layer (its own parameters included) and
downstream, the loss before and after, over many networks. Then the same with the first
layer's output added to the second's.

References:
----------
Lu, Shin, Su, Karniadakis 2019, Dying ReLU and initialization: a dead network trains to
the best constant.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, exact, mean
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import relu
from defib.lab.stacks import Stack, draw

DEAD = 1
"""Which of the layers is dead."""


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(50, "networks drawn", quick=10)
    samples: int = dial(64, "samples of the data set")
    inputs: int = dial(6, "inputs of the network")
    width: int = dial(12, "units of each of the three hidden layers")
    target_mean: float = dial(3.0, "mean of the targets, whose deviation is 1")
    margin: float = dial(0.1, "how far below 0 the dead layer's largest sums are put")
    bias: float = dial(0.5, "deviation of the biases before the layer is killed")
    rate: float = dial(0.02, "learning rate of gradient descent")
    steps: int = dial(1000, "steps of training", quick=300)
    slope: float = dial(0.0, "slope of the activation for negative inputs; 0 is ReLU")
    bias_after: bool = dial(True, "whether the layers above the dead one have biases")
    moved: float = dial(1e-6, "change of a parameter that counts as one")
    gain: float = dial(0.05, "by what share of the best constant's loss a net must beat it to have learnt")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What training did to every network.

    Attributes:
        upstream: Largest change of a parameter up to the dead layer.
        downstream: Largest change of a parameter above it.
        losses: Loss before each step and after the last, over that of the best constant; shape
            (steps + 1, R).
    """

    upstream: float
    downstream: float
    losses: Tensor


class DeadLayer(Experiment[Dials]):
    """Gradient descent through a layer that puts out nothing."""

    slug = "dead-layer"
    title = "What still learns when a whole hidden layer is dead?"
    topic = Topic.DYING_RELU
    rows = ("S0-2", "S0-8", "S0-29", "S0-30")
    dials = Dials
    perturbations = (
        Perturbation(
            why="without biases above the dead layer there is nothing left that could learn",
            dials={"bias_after": False},
            changes=("S0-2", "S0-8"),
        ),
        Perturbation(
            why="a leaky layer passes gradient to what lies upstream",
            dials={"slope": 0.2},
            changes=("S0-8", "S0-29"),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        plain = _train(dials, run.torch(0), skip=False)
        skipping = _train(dials, run.torch(0), skip=True)
        n = dials.networks
        most = max(plain.upstream, plain.downstream)
        fall = 1 - plain.losses[-1] / plain.losses[0]
        upstream = exact(plain.upstream, n=n)
        downstream = exact(plain.downstream, n=n)

        def part(row: str, says: str, number: float) -> Part:
            return Part(row=row, says=says, estimate=exact(number, n=n), region=at_most(0.0))

        return Measurement(
            parts=(
                part("S0-2", "the largest change of any parameter is 0", most),
                Part(
                    row="S0-2",
                    says="the loss does not fall: the share of it that goes is 0",
                    estimate=mean(fall),
                    region=at_most(0.0),
                ),
                part("S0-8", "what feeds the dead layer does not change", plain.upstream),
                part("S0-8", "nor does anything else", plain.downstream),
                part("S0-29", "nothing upstream of the dead layer changes", plain.upstream),
                part("S0-29", "nothing downstream changes", plain.downstream),
                part("S0-29", "a skip connection changes nothing upstream", skipping.upstream),
                Part(
                    row="S0-30",
                    says="what lies upstream stops",
                    estimate=upstream,
                    region=at_most(0.0),
                ),
                Part(
                    row="S0-30",
                    says="what lies downstream changes",
                    estimate=downstream,
                    region=at_least(dials.moved),
                ),
                Part(
                    row="S0-30",
                    says="and learns more than a constant: the loss falls below the best constant's",
                    estimate=mean(plain.losses[-1]),
                    region=at_most(1 - dials.gain),
                ),
            ),
            figure=_figure(plain, skipping),
        )


def _figure(plain: Outcome, skipping: Outcome) -> Figure:
    steps = range(len(plain.losses))
    return Figure(
        title="Loss of networks with a dead layer",
        x="step",
        y="loss / loss of the best constant",
        log_y=True,
        lines=(
            line("dead layer", steps, plain.losses.median(1).values),
            line("dead layer, skip connection around it", steps, skipping.losses.median(1).values),
            line("best constant", (0, steps[-1]), (1, 1), dashed=True),
        ),
    )


def _outputs(stack: Stack, x: Tensor, dials: Dials, *, skip: bool) -> Tensor:
    """Outputs (R, N, 1); with ``skip`` the dead layer's input is added to what it puts out."""
    act = relu(dials.slope)
    h = x.expand(dials.networks, *x.shape)
    for number, (weight, bias) in enumerate(zip(stack.weights, stack.biases, strict=True)):
        s = torch.baddbmm(bias, h, weight.transpose(1, 2))
        if number == len(stack.weights) - 1:
            return s
        h = act(s) + h if skip and number == DEAD else act(s)
    raise AssertionError("a network has layers")


def _train(dials: Dials, generator: torch.Generator, *, skip: bool) -> Outcome:
    """Kills the layer in every network and trains them."""
    x = torch.randn(dials.samples, dials.inputs, generator=generator, dtype=torch.float64)
    y = torch.randn(dials.samples, 1, generator=generator, dtype=torch.float64)
    y = (y - y.mean()) / y.std(correction=0) + dials.target_mean
    sizes = (dials.inputs, dials.width, dials.width, dials.width, 1)
    stack = draw(dials.networks, sizes, generator, bias=dials.bias, dtype=torch.float64)
    with torch.no_grad():
        top = stack.sums(x, relu(dials.slope))[DEAD].amax(1, keepdim=True)
        stack.biases[DEAD].sub_(top + dials.margin)
        if not dials.bias_after:
            for bias in stack.biases[DEAD + 1 :]:
                bias.zero_().requires_grad_(False)
    before = [p.detach().clone() for p in stack.parameters()]
    moving = [p for p in stack.parameters() if p.requires_grad]
    losses = []
    for step in range(dials.steps + 1):
        loss = (_outputs(stack, x, dials, skip=skip) - y).square().mean((1, 2))
        losses.append(loss.detach())
        if step == dials.steps:
            break
        gradients = torch.autograd.grad(loss.sum(), moving, allow_unused=True)
        with torch.no_grad():
            for p, gradient in zip(moving, gradients, strict=True):
                if gradient is not None:
                    p.sub_(dials.rate * gradient)
    changes = [
        float((p.detach() - old).abs().max()) for p, old in zip(stack.parameters(), before, strict=True)
    ]
    border = 2 * (DEAD + 1)
    return Outcome(
        upstream=max(changes[:border]), downstream=max(changes[border:]), losses=torch.stack(losses)
    )
