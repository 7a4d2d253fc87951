"""If the output layer's gradients are zero, are those of the hidden layer zero too?

Claim
-----
For a single sample, zero gradients of output weights and bias mean zero gradients of the
hidden weights. For a batch they do not. Without a bias they do not either. If the hidden
layer puts out zeros, the hidden weights may still have gradient. And: batches differ from
single samples because of the non-linearity.

Prediction
----------
Outputs z = W h + b, delta_i = dL/dz_i of sample i. The gradients are sum_i delta_i h_i for W,
sum_i delta_i for b, and for the hidden weights sum_i (W^T delta_i * phi'(s_i)) x_i. With one
sample, a zero bias gradient is delta = 0, and everything behind it is 0. With more, the
deltas may cancel in the first two sums and not in the third, in a linear net as well:
non-linearity is not the reason. Without a bias, h = 0 makes the gradient of W zero whatever
delta is; tanh has slope 1 at h = 0 and passes delta on. A ReLU whose outputs are 0 because
its inputs are negative has slope 0 and passes nothing.

Method
------
Random nets with one hidden layer. The output layer is made stationary exactly: solved by
least squares for the squared loss (in float64; for one sample without a residual). Then one
backward pass; the share of nets whose hidden gradient is above a threshold, relative to
what it is under a random output layer.

References:
----------
Rumelhart, Hinton, Williams 1986, Learning representations by back-propagating errors (the sums
over samples).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import ALWAYS, NEVER, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, bars


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(1000, "random nets of each kind", quick=500)
    inputs: int = dial(5, "inputs")
    width: int = dial(3, "hidden units")
    outputs: int = dial(2, "outputs")
    single: int = dial(1, "samples of what is called a single sample")
    batch: int = dial(12, "samples of a batch")
    shift: float = dial(0.0, "bias of the hidden tanh units in the nets whose hidden outputs are zeros")
    bias_without: bool = dial(False, "whether the nets 'without bias' have one after all")
    linear_width: int = dial(3, "hidden units of the linear nets")
    threshold: float = dial(
        1e-6, "hidden gradient, relative to that of the unsolved net, that counts as not zero"
    )


class ZeroOutputGradients(Experiment[Dials]):
    """Nets with a stationary output layer, and what their hidden layer gets."""

    slug = "zero-output-gradients"
    title = "If the output layer's gradients are zero, are those of the hidden layer zero too?"
    topic = Topic.CAUSALITY
    rows = ("S3-1", "S3-2", "S3-3", "S3-4", "S3-5")
    dials = Dials
    perturbations = (
        Perturbation(
            why="two samples are a batch, if the layer has fewer features than they need",
            dials={"single": 12},
            changes=("S3-1",),
        ),
        Perturbation(
            why="with no more samples than features and bias, every delta is 0: the rank theorem",
            dials={"batch": 4},
            changes=("S3-2",),
        ),
        Perturbation(
            why="with a bias, a stationary output layer means delta = 0 again",
            dials={"bias_without": True},
            changes=("S3-3",),
        ),
        Perturbation(
            why="a tanh far from 0 has slope 0 at its output: planted zeros with no slope pass nothing",
            dials={"shift": 400.0},
            changes=("S3-4",),
        ),
        Perturbation(
            why="a linear layer at least as wide as its inputs hides nothing from the output layer",
            dials={"linear_width": 5},
            changes=("S3-5",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        def linear(s: Tensor) -> Tensor:
            return s

        def negative(s: Tensor) -> Tensor:
            return torch.relu(s - 1)

        shifted, bias = _shifted(dials.shift), dials.bias_without
        kinds = (
            (
                "S3-1",
                "one sample",
                False,
                _solved(dials, run.torch(1), dials.single, torch.tanh, dials.width),
            ),
            ("S3-2", "a batch", True, _solved(dials, run.torch(2), dials.batch, torch.tanh, dials.width)),
            (
                "S3-3",
                "no output bias, one sample, h = 0",
                True,
                _zeros(dials, run.torch(3), torch.tanh, bias),
            ),
            ("S3-4", "hidden outputs 0, tanh", True, _zeros(dials, run.torch(4), shifted, bias=False)),
            (
                "S3-4",
                "hidden outputs 0, negative ReLU",
                True,
                _zeros(dials, run.torch(5), negative, bias=False),
            ),
            (
                "S3-5",
                "a batch, linear net",
                False,
                _solved(dials, run.torch(6), dials.batch, linear, dials.linear_width),
            ),
        )
        says = {False: "the hidden gradient is zero", True: "the hidden gradient is not zero"}
        shares = [int((size > dials.threshold).sum()) for *_, size in kinds]
        parts = tuple(
            Part(
                row=row,
                says=f"{name}: {says[moves]}",
                estimate=share(count, dials.networks),
                region=ALWAYS if moves else NEVER,
            )
            for (row, name, moves, _size), count in zip(kinds, shares, strict=True)
        )
        return Measurement(
            parts=parts,
            figure=Figure(
                title="Nets whose hidden layer gets gradient from a stationary output layer",
                x="net",
                y="share",
                lines=(bars("measured", [count / dials.networks for count in shares]),),
                kind=Kind.BAR,
                labels=tuple(name for _row, name, _moves, _size in kinds),
            ),
        )


def _shifted(shift: float) -> Callable[[Tensor], Tensor]:
    """The tanh moved along, so that it is 0 at 0 and saturated there if the shift is large."""
    return lambda s: torch.tanh(s + shift) - torch.tanh(torch.tensor(shift, dtype=torch.float64))


def _solved(
    dials: Dials, generator: torch.Generator, samples: int, function: Callable[[Tensor], Tensor], width: int
) -> Tensor:
    """Hidden gradients of nets whose output layer least squares has made stationary.

    Args:
        dials: The settings.
        generator: Of data and weights.
        samples: N.
        function: The activation.
        width: Hidden units.

    Returns:
        Their norms, relative to those under a random output layer; shape (networks,).
    """
    draw = _Draw(dials.networks, generator)
    x, y = draw(samples, dials.inputs), draw(samples, dials.outputs)
    w, random = draw(dials.inputs, width), draw(width + 1, dials.outputs)
    h = function(x @ w)
    features = torch.cat([h, torch.ones_like(h[..., :1])], 2)
    solution = torch.linalg.pinv(features) @ y
    return _hidden_gradient(x, y, w, solution, function) / _hidden_gradient(x, y, w, random, function)


def _zeros(
    dials: Dials, generator: torch.Generator, function: Callable[[Tensor], Tensor], bias: bool
) -> Tensor:
    """The same for one sample whose hidden pre-activations are 0, with random output weights.

    Inputs and weights are non-zero in different places, so that s is 0 without rounding.

    Args:
        dials: The settings.
        generator: Of data and weights.
        function: The activation; 0 at 0.
        bias: Whether an output bias makes the layer stationary; else the zero outputs do.

    Returns:
        Norms relative to those of a linear net, shape (networks,).
    """
    draw = _Draw(dials.networks, generator)
    half = dials.inputs // 2
    x, y = draw(1, dials.inputs), draw(1, dials.outputs)
    w, output = draw(dials.inputs, dials.width), draw(dials.width + 1, dials.outputs)
    x[..., half:] = 0
    w[:, :half] = 0
    output[:, -1:] = y if bias else 0
    free = output.clone()
    free[:, -1:] = 0
    reference = _hidden_gradient(x, y, w, free, lambda s: s)
    return _hidden_gradient(x, y, w, output, function) / reference


class _Draw:
    """Normal numbers in float64, one array for each net."""

    def __init__(self, networks: int, generator: torch.Generator) -> None:
        self.networks, self.generator = networks, generator

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(self.networks, *shape, generator=self.generator, dtype=torch.float64)


def _hidden_gradient(
    x: Tensor, y: Tensor, w: Tensor, output: Tensor, function: Callable[[Tensor], Tensor]
) -> Tensor:
    """Norm of the squared loss's gradient with respect to w, shape (networks,)."""
    w = w.clone().requires_grad_()
    h = function(x @ w)
    z = h @ output[:, :-1] + output[:, -1:]
    (found,) = torch.autograd.grad((z - y).square().mean((1, 2)).sum(), w)
    norms: Tensor = found.flatten(1).norm(dim=1)
    return norms
