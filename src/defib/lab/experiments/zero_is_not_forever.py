"""Is a weight whose gradient was exactly zero once never updated again?

Claim
-----
Once the gradient of a weight reaches 0, the weight is never updated again. Against it: a
dead unit may come back in training, through other units or another mini-batch.

Prediction
----------
The gradient of a weight is a sum over samples of delta_i h_i. It is exactly 0 when its unit,
or the one that feeds it, is silent on all samples of the batch. Another batch has other
samples; and after other weights have moved, other samples may fire the unit. Nothing in the
sum remembers that it was 0.

Method
------
Nets with two hidden ReLU layers on the digits. First, gradient descent on the full batch
without momentum: for every weight of the second layer, was its gradient exactly 0 at some
step, and not 0 at a later one? Then, in the net as it is at the end, small batches: of the
weights with gradient 0 on one batch, the share that gets some on another. Last, whole units
of the second layer that are dead on all samples at some step and fire at a later one.

References:
----------
Shin, Karniadakis 2020, Trainability of ReLU networks and data-dependent initialization.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import Estimate, Region, at_least, at_most, mean
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import relu
from defib.lab.stacks import Stack, cross_entropy, dead, draw


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(12, "networks")
    samples: int = dial(200, "digits, pixels in [0, 1]")
    width: int = dial(32, "units of each of the two hidden layers")
    rate: float = dial(0.3, "learning rate of gradient descent")
    steps: int = dial(300, "steps of training", quick=200)
    batch: int = dial(8, "samples of a small batch")
    frozen: bool = dial(False, "whether training stops: the learning rate is 0 and there is one batch")
    some: float = dial(0.02, "share of the weights or units that counts as some")


@dataclass(frozen=True, kw_only=True)
class Returned:
    """Shares of those that had been 0, network by network; shape (R,), nan where none had.

    Attributes:
        weights: Weights with gradient exactly 0 on all samples, later not.
        units: Units dead on all samples, later not.
        batches: Weights with gradient exactly 0 on a small batch, not on the next.
        zero: Share of weights whose gradient is 0, step by step, shape (steps,).
    """

    weights: Tensor
    units: Tensor
    batches: Tensor
    zero: Tensor


class ZeroIsNotForever(Experiment[Dials]):
    """Following exact zeros of the gradient."""

    slug = "zero-is-not-forever"
    title = "Is a weight whose gradient was exactly zero once never updated again?"
    topic = Topic.DYING_RELU
    rows = ("S0-3", "S2-6")
    dials = Dials
    perturbations = (
        Perturbation(
            why="if nothing else moves and no other batch comes a zero stays a zero",
            dials={"frozen": True},
            changes=("S0-3", "S2-6"),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        back = _follow(dials, run)

        def part(row: str, says: str, shares: Tensor, region: Region) -> Part:
            return Part(row=row, says=says, estimate=_mean(shares), region=region)

        few, some = at_most(dials.some), at_least(dials.some)
        return Measurement(
            parts=(
                part(
                    "S0-3",
                    "weights whose gradient was 0 once get none later; share that does",
                    back.weights,
                    few,
                ),
                part("S2-6", "some dead units come back when other units have learnt", back.units, some),
                part(
                    "S2-6",
                    "some weights without gradient get one from another mini-batch",
                    back.batches,
                    some,
                ),
            ),
            figure=Figure(
                title="Weights of the second layer whose full-batch gradient is exactly 0",
                x="step",
                y="share of weights",
                lines=(line("zero now", range(len(back.zero)), back.zero),),
            ),
        )


def _mean(shares: Tensor) -> Estimate:
    return mean(shares[shares.isfinite()])


def _follow(dials: Dials, run: LabRun) -> Returned:
    """Trains on the full batch and follows every weight of the second layer.

    Letters: R networks, H units, D inputs of the second layer.

    Returns:
        Who came back.
    """
    data = digits(centred=False)
    x, y = data.x[: dials.samples].double(), data.y[: dials.samples]
    generator = run.torch(0)
    sizes = (x.shape[1], dials.width, dials.width, 10)
    stack = draw(dials.networks, sizes, generator, dtype=torch.float64)
    parameters = stack.parameters()
    once = torch.zeros_like(stack.weights[1], dtype=torch.bool)
    later, died, rose = once.clone(), once[..., 0].clone(), once[..., 0].clone()
    zeros = []
    for _ in run.track(range(dials.steps)):
        sums = stack.sums(x, relu())
        gradients = torch.autograd.grad(cross_entropy(sums[-1], y).sum(), parameters)
        zero, silent = gradients[2] == 0, dead(sums[1].detach())
        later |= once & ~zero
        once |= zero
        rose |= died & ~silent
        died |= silent
        zeros.append(float(zero.double().mean()))
        if not dials.frozen:
            with torch.no_grad():
                for p, gradient in zip(parameters, gradients, strict=True):
                    p.sub_(dials.rate * gradient)
    return Returned(
        weights=later.sum((1, 2)) / once.sum((1, 2)),
        units=rose.sum(1) / died.sum(1),
        batches=_batches(stack, x, y, dials, generator),
        zero=torch.tensor(zeros),
    )


def _batches(stack: Stack, x: Tensor, y: Tensor, dials: Dials, generator: torch.Generator) -> Tensor:
    """Of the weights of the second layer without gradient on one small batch, those with one on another."""
    order = torch.randperm(len(x), generator=generator)
    first, second = order[: dials.batch], order[dials.batch : 2 * dials.batch]
    zero = []
    for chosen in (first, first if dials.frozen else second):
        loss = cross_entropy(stack.sums(x[chosen], relu())[-1], y[chosen]).sum()
        (gradient,) = torch.autograd.grad(loss, stack.weights[1])
        zero.append(gradient == 0)
    return (zero[0] & ~zero[1]).sum((1, 2)) / zero[0].sum((1, 2))
