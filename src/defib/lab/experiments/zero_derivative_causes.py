"""Has an exactly zero derivative four causes, or more?

Claim
-----
An effectively zero derivative has four causes: a step activation, a negative ReLU, the
granularity of floating point, zero loss.

Prediction
----------
Each of the four makes the gradient of a weight exactly 0: a step's derivative is 0
everywhere, relu'(s) = 0 for s < 0, sigma'(s) = y (1 - y) is 0 once y rounds to 1, and at
zero loss every delta is 0. But the gradient of a weight is a sum over samples of products
delta h along every path, and other things make such a sum 0 as well: two samples
of a batch contradict each other and cancel; the input h is always 0; the graph is cut
(detach); a clamp is at its end; the sample's loss is masked; another value wins the max.

Method
------
A unit with random weights in a tiny net, planted once for each cause; one backward pass;
the share of nets in which the unit's weight gradient is exactly 0. Where a comparison needs
it, the same net without the cause has a gradient. "Further causes" counts those under which
every net had gradient 0 although none of the four is present.

References:
----------
Micikevicius et al. 2018, Mixed precision training (underflow); PyTorch's documentation of
detach and clamp.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import ALWAYS, at_most, exact, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, bars
from defib.lab.nets import relu


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(1000, "networks planted with each cause", quick=500)
    inputs: int = dial(5, "inputs of the unit")
    slope: float = dial(0.0, "slope of the planted ReLU below 0; 0 is ReLU")
    saturation: float = dial(40.0, "pre-activation of the planted sigmoid, in float32")
    leak: float = dial(0.0, "share of the signal that passes beside each of the further causes")


class ZeroDerivativeCauses(Experiment[Dials]):
    """One unit, planted with one cause at a time."""

    slug = "zero-derivative-causes"
    title = "Has an exactly zero derivative four causes, or more?"
    topic = Topic.CAUSALITY
    rows = ("S0-20",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="where a little signal passes beside the further causes, only the four are left",
            dials={"leak": 0.01},
            changes=("S0-20",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        four = {name: _zeros(cause, dials, run.torch(1)) for name, cause in _four(dials).items()}
        further = {name: _zeros(cause, dials, run.torch(2)) for name, cause in _further(dials).items()}
        healthy = _zeros(_unit(torch.tanh), dials, run.torch(3))
        parts = [
            Part(
                row="S0-20",
                says=f"{name} makes the gradient exactly 0",
                estimate=share(count, dials.networks),
                region=ALWAYS,
            )
            for name, count in four.items()
        ]
        found = sum(count == dials.networks for count in further.values())
        parts.append(
            Part(
                row="S0-20",
                says="no further cause makes it exactly 0 in every network",
                estimate=exact(found, n=len(further), unit="causes"),
                region=at_most(0.0),
            )
        )
        counts = {**four, **further, "none planted": healthy}
        return Measurement(
            parts=tuple(parts),
            figure=Figure(
                title="Networks whose gradient is exactly 0",
                x="planted cause",
                y="share of networks",
                lines=(bars("share", [count / dials.networks for count in counts.values()]),),
                kind=Kind.BAR,
                labels=tuple(counts),
            ),
        )


Cause = Callable[[Tensor, Tensor], Tensor]
"""From inputs (R, N, D) and weights (R, D) to the loss, summed over networks."""


def _zeros(cause: Cause, dials: Dials, generator: torch.Generator) -> int:
    """Networks whose weights all have gradient exactly 0, of two samples each."""
    x = torch.randn(dials.networks, 2, dials.inputs, generator=generator)
    w = torch.randn(dials.networks, dials.inputs, generator=generator).requires_grad_()
    (found,) = torch.autograd.grad(cause(x, w), w)
    return int((found == 0).all(1).sum())


def _states(x: Tensor, w: Tensor) -> Tensor:
    """Pre-activations, shape (R, N)."""
    return torch.einsum("rnd,rd->rn", x, w)


def _unit(activation: Callable[[Tensor], Tensor], *, shift: float = 0.0) -> Cause:
    """Squared loss of one unit against the target 3, which no activation here attains."""
    return lambda x, w: (activation(_states(x, w) + shift) - 3).square().sum()


def _four(dials: Dials) -> dict[str, Cause]:
    def fitted(x: Tensor, w: Tensor) -> Tensor:
        y = torch.tanh(_states(x, w))
        return (y - y.detach()).square().sum()

    def negative(x: Tensor, w: Tensor) -> Tensor:
        s = _states(x, w)
        return (relu(dials.slope)(s - s.detach().amax(1, keepdim=True) - 0.1) - 3).square().sum()

    return {
        "a step activation": _unit(torch.sign),
        "a negative ReLU": negative,
        "granularity (a saturated sigmoid)": _unit(torch.sigmoid, shift=dials.saturation),
        "zero loss": fitted,
    }


def _further(dials: Dials) -> dict[str, Cause]:
    leak = dials.leak

    def cancelled(x: Tensor, w: Tensor) -> Tensor:
        # One input twice, targets 3 and -3, absolute error: the two samples pull opposite ways.
        y = torch.tanh(_states(x[:, :1], w))
        return ((y - 3).abs() + (1 + leak) * (y + 3).abs()).sum()

    def masked(x: Tensor, w: Tensor) -> Tensor:
        return (leak * (torch.tanh(_states(x, w)) - 3).square()).sum()

    def outshone(x: Tensor, w: Tensor) -> Tensor:
        s = torch.tanh(_states(x, w))
        other = torch.full_like(s, 2.0)
        return (torch.maximum(s, other) + leak * s - 3).square().sum()

    return {
        "contradicting samples cancel": cancelled,
        "an input that is always 0": lambda x, w: (torch.tanh(_states(x * leak, w)) - 3).square().sum(),
        "a cut graph (detach)": _unit(lambda s: torch.tanh(s.detach() + leak * s)),
        "a clamp at its end": _unit(lambda s: torch.clamp(s + 50, -1, 1) + leak * s),
        "a masked loss": masked,
        "another value wins the max": outshone,
    }
