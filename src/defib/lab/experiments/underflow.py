"""Do small gradients underflow to zero, and what does a loss scale save?

Claim
-----
Small gradients underflow to zero. And: near zero, digital products of small numbers round to
zero.

Prediction
----------
Every format has a smallest positive number u: 2^-24 in float16, 1e-45 in float32. What is
below u / 2 rounds to 0. So the product of two numbers below the root of u / 2 is always 0,
although neither is. In a deep net gradients shrink by a factor per layer: 10 sigmoid layers
under torch's default initialisation lose 8.5 decades and more, and float16 has 7 of them
below 1. Multiplying the loss by S shifts all gradients up by S: what is lost falls with S.

Method
------
Products of random numbers of size root(u) / 4, in four formats. Then deep nets on the
digits, the cross-entropy averaged over a batch, gradients with respect to every
pre-activation in float64: the share of the non-zero ones that are 0 after rounding to
float16, network by network, against the loss scale S.

References:
----------
Micikevicius et al. 2018, Mixed precision training.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.crowd import Crowd
from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import ALWAYS, at_least, mean, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import ACTIVATIONS
from defib.lab.stacks import cross_entropy

DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
NETS = {
    "sigmoid, default": ("sigmoid", "default"),
    "ReLU, default": ("relu", "default"),
    "ReLU, He": ("relu", "he"),
    "tanh, Xavier": ("tanh", "xavier"),
}


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    products: int = dial(2000, "products in each format")
    shift: float = dial(0.0, "power of 2 by which both factors are scaled up first")
    networks: int = dial(12, "networks of each kind", quick=6)
    layers: int = dial(10, "hidden layers")
    width: int = dial(64, "units of each")
    samples: int = dial(128, "samples of the batch")
    scale: float = dial(1.0, "loss scale of the verdict")
    net: str = dial("sigmoid, default", "network of the verdict", choices=NETS)
    dtype: str = dial("float16", "format of the verdict", choices=DTYPES)
    lost: float = dial(0.2, "smallest share of gradients lost that bears the claim out")


class Underflow(Experiment[Dials]):
    """Gradients rounded to a format with few powers of two."""

    slug = "underflow"
    title = "Do small gradients underflow to zero, and what does a loss scale save?"
    topic = Topic.NUMERICS
    rows = ("S0-22", "S4-6")
    dials = Dials
    perturbations = (
        Perturbation(
            why="factors scaled up by 2^8 have products above the smallest number",
            dials={"shift": 8.0},
            changes=("S0-22",),
        ),
        Perturbation(
            why="under He's initialisation gradients keep their size, and none is lost",
            dials={"net": "ReLU, He"},
            changes=("S4-6",),
        ),
        Perturbation(
            why="bfloat16 has the range of float32",
            dials={"dtype": "bfloat16"},
            changes=("S4-6",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        parts = [
            Part(
                row="S0-22",
                says=f"in {name} the product of two numbers below root(u / 2) is 0, though they are not",
                estimate=share(_lost_products(dials, dtype, run.torch(0)), dials.products),
                region=ALWAYS,
            )
            for name, dtype in DTYPES.items()
        ]
        gradients = {name: _gradients(dials, *kind, run.torch(1)) for name, kind in run.track(NETS.items())}
        parts.append(
            Part(
                row="S4-6",
                says=f"of the gradients of 10 layers ({dials.net}), many are 0 in {dials.dtype}",
                estimate=mean(_lost(gradients[dials.net], dials.scale, DTYPES[dials.dtype])),
                region=at_least(dials.lost),
            )
        )
        return Measurement(parts=tuple(parts), figure=_figure(gradients))


def _lost_products(dials: Dials, dtype: torch.dtype, generator: torch.Generator) -> int:
    """Products that are 0 although both factors are not."""
    info = torch.finfo(dtype)
    # The logarithm of u: torch names the smallest normal number, u is eps times that.
    log_u = math.log2(info.tiny) + math.log2(info.eps)
    size = 2 ** (log_u / 2 - 2 + dials.shift)
    factors = size * (0.5 + torch.rand(2, dials.products, generator=generator, dtype=torch.float64))
    a, b = factors.to(dtype)
    return int(((a * b == 0) & (a != 0) & (b != 0)).sum())


def _gradients(dials: Dials, activation: str, init: str, generator: torch.Generator) -> Tensor:
    """With respect to every hidden pre-activation; shape (networks, numbers), float64."""
    data = digits()
    sizes = (64, *(dials.width,) * dials.layers, 10)
    crowd = Crowd(dials.networks, sizes, ACTIVATIONS[activation], generator, init=init, dtype=torch.float64)
    states = crowd.states(data.x[: dials.samples].double())
    loss = cross_entropy(states[-1], data.y[: dials.samples]).sum()
    found = torch.autograd.grad(loss, states[:-1])
    return torch.cat([g.flatten(1) for g in found], 1)


def _lost(gradients: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """Share of the non-zero ones that are 0 after scaling and rounding, shape (networks,)."""
    there = gradients != 0
    rounded = (gradients * scale).to(dtype)
    return ((rounded == 0) & there).sum(1).double() / there.sum(1)


def _figure(gradients: dict[str, Tensor]) -> Figure:
    scales = [2.0**k for k in range(0, 25, 2)]
    return Figure(
        title="Gradients of 10 layers that float16 makes 0",
        x="loss scale",
        y="share lost",
        lines=tuple(
            line(name, scales, [float(_lost(found, s, torch.float16).mean()) for s in scales])
            for name, found in gradients.items()
        ),
        log_x=True,
    )
