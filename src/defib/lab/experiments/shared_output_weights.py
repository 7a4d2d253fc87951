"""Does the single-sample statement about zero output gradients hold for convolutions?

Claim
-----
The single-sample statement holds for convolutional nets as well: if the gradients of the
output layer's weights and bias are zero, all gradients below are zero.

Prediction
----------
The statement needs that the bias gradient is the delta itself. A convolutional output layer
uses its weights at every position, and its bias gradient is the sum of delta over positions,
which may be zero while no delta is. The same holds for a recurrent net that is read out at
every step with the same weights. Only where the output layer sees one vector per sample, as
after a global average pooling, one sample is one term, and the statement holds.

Method
------
Random nets, one sample each, squared loss. The output layer is made stationary by least
squares over positions (or steps); then the gradient of the layer below, relative to what it
is under a random output layer; the share of nets where it is above a threshold.

References:
----------
LeCun et al. 1989, Backpropagation applied to handwritten zip code recognition (shared
weights).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import NEVER, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, bars


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(500, "random nets of each kind", quick=200)
    positions: int = dial(24, "positions of the convolution's output, and steps of the recurrent net")
    channels: int = dial(4, "hidden channels or units")
    inputs: int = dial(3, "inputs at each position")
    threshold: float = dial(1e-6, "relative gradient that counts as not zero")


class SharedOutputWeights(Experiment[Dials]):
    """Convolutional and recurrent nets with a stationary output layer, one sample."""

    slug = "shared-output-weights"
    title = "Does the single-sample statement about zero output gradients hold for convolutions?"
    topic = Topic.CAUSALITY
    rows = ("S3-6",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="with one position and one step nothing is shared: a sample is one term again",
            dials={"positions": 1},
            changes=("S3-6",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        sizes = {
            "a convolution read at every position": _relative(dials, run.torch(1), _convolution),
            "a recurrent net read at every step": _relative(dials, run.torch(2), _recurrent),
        }
        pooled = _relative(dials, run.torch(3), _pooled)
        counts = {name: int((size > dials.threshold).sum()) for name, size in sizes.items()}
        every = {**counts, "a convolution, global average": int((pooled > dials.threshold).sum())}
        return Measurement(
            parts=tuple(
                Part(
                    row="S3-6",
                    says=f"{name}, one sample: the gradient below is zero",
                    estimate=share(count, dials.networks),
                    region=NEVER,
                )
                for name, count in counts.items()
            ),
            figure=Figure(
                title="Nets with gradient below a stationary output layer, one sample",
                x="net",
                y="share",
                lines=(bars("measured", [count / dials.networks for count in every.values()]),),
                kind=Kind.BAR,
                labels=tuple(every),
            ),
            note=(
                f"After a global average pooling, where one sample is one term, "
                f"{list(every.values())[-1]} of {dials.networks} nets have gradient below."
            ),
        )


def _convolution(x: Tensor, w: Tensor) -> Tensor:
    """Hidden features at each position, from three neighbours: shape (R, T, H)."""
    near = x.unfold(1, 3, 1).flatten(2)
    return torch.tanh(near @ w)


def _pooled(x: Tensor, w: Tensor) -> Tensor:
    return _convolution(x, w).mean(1, keepdim=True)


def _recurrent(x: Tensor, w: Tensor) -> Tensor:
    """States of h = tanh(x_t U + h V) at each step; the first rows of w are U."""
    inputs = x.shape[2]
    u, v = w[:, :inputs], w[:, inputs : inputs + w.shape[2]]
    h = torch.zeros_like(w[:, 0])
    states = []
    for step in range(x.shape[1] - 2):
        h = torch.tanh(torch.einsum("rd,rdh->rh", x[:, step], u) + torch.einsum("rg,rgh->rh", h, v))
        states.append(h)
    return torch.stack(states, 1)


def _relative(
    dials: Dials, generator: torch.Generator, features: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Gradients below a stationary output layer, relative to those below a random one.

    Args:
        dials: The settings.
        generator: Of data and weights.
        features: From inputs (R, T + 2, D) and weights to what the output layer reads, (R, T, H).

    Returns:
        Shape (networks,).
    """

    def draw(*shape: int) -> Tensor:
        return torch.randn(dials.networks, *shape, generator=generator, dtype=torch.float64)

    x = draw(dials.positions + 2, dials.inputs)
    w = draw(max(3 * dials.inputs, dials.inputs + dials.channels), dials.channels) / 2
    if features is not _recurrent:
        w = w[:, : 3 * dials.inputs]
    h = features(x, w)
    y, random = draw(h.shape[1], 1), draw(dials.channels + 1, 1)
    solution = torch.linalg.pinv(_with_one(h)) @ y
    return _gradient(x, y, w, solution, features) / _gradient(x, y, w, random, features)


def _with_one(h: Tensor) -> Tensor:
    return torch.cat([h, torch.ones_like(h[..., :1])], 2)


def _gradient(
    x: Tensor, y: Tensor, w: Tensor, output: Tensor, features: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Norm of the squared loss's gradient with respect to w, shape (networks,)."""
    w = w.clone().requires_grad_()
    z = _with_one(features(x, w)) @ output
    (found,) = torch.autograd.grad((z - y).square().sum(), w)
    norms: Tensor = found.flatten(1).norm(dim=1)
    return norms
