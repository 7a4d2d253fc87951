"""Can a step activation be trained through?

Claim
-----
Step activations cannot be trained through, so they stand in the very last layer only.

Prediction
----------
sign, round, floor, ceil and trunc have derivative 0 wherever they have one, and autograd
passes exactly 0 back: what lies before them gets no gradient. But the backward pass may use
another function than the forward pass. The straight-through estimator passes delta on
wherever |s| <= 1, as if the step were the clamp of s to [-1, 1]: the layer before the step
then learns, and the net ends up better than one whose first layer stays as it was drawn.

Method
------
First each step between two layers of a random net, with one backward pass: the largest
gradient of the first layer. Then nets with one layer of sign units on the digits, trained
with and without the straight-through estimator from the same weights; the difference of
their test accuracies, net by net.

References:
----------
Bengio, Leonard, Courville 2013, Estimating or propagating gradients through stochastic
neurons; Hubara et al. 2016, Binarized neural networks (the clamp's estimator).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.crowd import Crowd
from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import at_most, exact, paired_difference
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, bars
from defib.lab.nets import batches

STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "sign": torch.sign,
    "round": torch.round,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "trunc": torch.trunc,
}


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(20, "networks of each kind", quick=6, paper=100)
    width: int = dial(16, "step units")
    steps: int = dial(600, "optimiser steps", quick=150)
    rate: float = dial(0.005, "learning rate of Adam")
    batch: int = dial(64, "samples of a batch")
    window: float = dial(1.0, "the estimator passes signal where |s| is at most this; 0 passes nothing")
    gain: float = dial(0.02, "smallest gain of accuracy that counts as training through the step")


class StepActivation(Experiment[Dials]):
    """Sign units inside a net, with the true derivative and with a surrogate."""

    slug = "step-activation"
    title = "Can a step activation be trained through?"
    topic = Topic.CAUSALITY
    rows = ("S0-21",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="an estimator that passes nothing is the step's own derivative: nothing is gained",
            dials={"window": 0.0},
            changes=("S0-21",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        largest = {name: _largest_gradient(step, run.torch(0)) for name, step in STEPS.items()}
        accuracy = {
            kind: _trained(dials, run, window)
            for kind, window in {"true derivative": 0.0, "straight-through": dials.window}.items()
        }
        parts = (
            Part(
                row="S0-21",
                says="the gradient of what lies before sign, round, floor, ceil or trunc is exactly 0",
                estimate=exact(max(largest.values()), n=len(largest)),
                region=at_most(0.0),
            ),
            Part(
                row="S0-21",
                says="no backward rule trains the layer before a step: the accuracy gains nothing",
                estimate=paired_difference(accuracy["straight-through"], accuracy["true derivative"]),
                region=at_most(dials.gain),
            ),
        )
        return Measurement(
            parts=parts,
            figure=Figure(
                title="Digits, one layer of sign units",
                x="backward rule of the step",
                y="test accuracy (mean)",
                lines=(bars("accuracy", [float(a.mean()) for a in accuracy.values()]),),
                kind=Kind.BAR,
                labels=tuple(accuracy),
            ),
        )


def _largest_gradient(step: Callable[[Tensor], Tensor], generator: torch.Generator) -> float:
    """Of the weights before a step, in 64 random nets."""
    x = torch.randn(64, 32, 6, generator=generator)
    w = torch.randn(64, 6, 8, generator=generator).requires_grad_()
    v = torch.randn(64, 8, 1, generator=generator)
    (found,) = torch.autograd.grad((step(x @ w) @ v - 1).square().sum(), w)
    return float(found.abs().max())


def _sign(window: float) -> Callable[[Tensor], Tensor]:
    """The sign of s forward; backward the identity where |s| <= window, else 0."""

    def function(s: Tensor) -> Tensor:
        passed = torch.where(s.abs() <= window, s, s.detach()) if window else s.detach()
        return s.sign().detach() + passed - passed.detach()

    return function


def _trained(dials: Dials, run: LabRun, window: float) -> Tensor:
    """Test accuracies, shape (networks,)."""
    data = digits()
    crowd = Crowd(dials.networks, (64, dials.width, 10), _sign(window), run.torch(1), init="lecun")
    optimiser = torch.optim.Adam(crowd.parameters(), dials.rate)
    for chosen in run.track(batches(len(data.x), dials.batch, dials.steps, run.torch(2))):
        optimiser.zero_grad()
        logits = crowd(data.x[chosen])
        target = data.y[chosen].expand(dials.networks, -1).flatten()
        torch.autograd.backward(
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), target, reduction="sum")
        )
        optimiser.step()
    return crowd.accuracies(data.x_test, data.y_test).double()
