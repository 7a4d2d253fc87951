"""Can one feel the way out of a flat place, and is the Hessian too heavy for it?

Claim
-----
A blind person who feels the curvature with a cane is guided better than by random steps. And:
the Hessian is too heavy to compute.

Prediction
----------
Feeling around at random is hopeless in many dimensions: the curvature v^T H v along a random
unit vector v is the mean of all P eigenvalues of the Hessian H plus little, and the mean is
positive where a few steep directions dominate; negative directions do not show. But a cane that
remembers does it: Lanczos' method feels along v, H v, H H v ... and finds the most negative
direction in a few dozen products. Along it, the loss falls more than along a random direction
of the same length. The matrix is too heavy to store, P^2 numbers. A product H v is not: it
is the gradient of g^T v, two to four times the arithmetic of a gradient. And few are needed:
with Ritz value theta and residual r = |H y - theta y|, an eigenvalue lies within r of theta.

Method
------
Tanh nets on digits averaged down to 4 x 4 pixels, part-way through training, float64. Random
probes; Lanczos with full re-orthogonalisation from a random start; steps of one length along
the direction it found and along random ones, both ways. Arithmetic is counted by torch's
counter of floating-point operations, not timed.

References:
----------
Pearlmutter 1994, Fast exact multiplication by the Hessian; Kuczynski, Wozniakowski 1992,
Estimating the largest eigenvalue by the power and Lanczos algorithms with a random start.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils.flop_counter import FlopCounterMode

from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import MOSTLY, Estimate, at_least, exact, paired_difference, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.flat import FlatNet


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(30, "networks", quick=10, paper=100)
    width: int = dial(12, "hidden tanh units")
    samples: int = dial(300, "samples of the loss")
    trained: int = dial(150, "steps of Adam before one looks; 0: all weights zero")
    probes: int = dial(200, "random probes of each network", quick=100)
    products: int = dial(60, "products of Lanczos' method")
    length: float = dial(0.3, "length of the steps that are compared")
    seen: float = dial(0.01, "least share of a net's random probes that must find negative curvature")
    compared: int = dial(20, "random steps that the step along Lanczos' direction is compared with")
    certified: float = dial(0.1, "a residual of this share of |theta| counts as having found the eigenvalue")
    needed: float = dial(0.5, "products for each parameter that would be as heavy as the matrix")
    parameters: float = dial(1e7, "parameters of a net whose Hessian one would store")
    memory: float = dial(64.0, "memory of the machine, GiB")
    gradients: float = dial(10.0, "cost of a product, in gradients, that would be too heavy")


class FeelingCurvature(Experiment[Dials]):
    """Random probes and Lanczos' method on part-trained networks."""

    slug = "feeling-curvature"
    title = "Can one feel the way out of a flat place, and is the Hessian too heavy for it?"
    topic = Topic.STATIONARY
    rows = ("S0-36", "S0-37")
    dials = Dials
    perturbations = (
        Perturbation(
            why="from all weights zero positive and negative curvatures balance: any probe finds some",
            dials={"trained": 0},
            changes=("S0-36",),
        ),
        Perturbation(
            why="the Hessian of ten thousand parameters fits any machine",
            dials={"parameters": 1e4},
            changes=("S0-37",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        x, y = _data(dials)
        net = FlatNet(sizes=(16, dials.width, 10), activation=torch.tanh)

        def loss(theta: Tensor) -> Tensor:
            logits = vmap(net, (0, None))(theta, x)
            labels = y.expand(len(theta), -1)
            found = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
            return found.mean(1)

        theta = _train(net, dials, loss, run.torch(0))
        product = _product(theta, loss)
        random = _unit(torch.randn(dials.probes, *theta.shape, generator=run.torch(1), dtype=torch.float64))
        felt = torch.stack([(v * product(v)).sum(1) for v in run.track(random)])
        found = _lanczos(product, theta, dials, run.torch(2))
        falls = [_fall(loss, theta, v * dials.length) for v in (found.direction, *random[: dials.compared])]
        at_random = torch.stack(falls[1:]).mean(0)
        costly = found.needed > dials.needed * net.count
        negative = (found.direction * product(found.direction)).sum(1) < 0
        felt_down = (felt < 0).double().mean(0) >= dials.seen

        def nets(which: Tensor) -> Estimate:
            return share(int(which.sum()), dials.networks)

        parts = (
            Part(
                row="S0-36",
                says=f"in most nets {dials.seen:.0%} of random directions have negative curvature",
                estimate=nets(felt_down),
                region=MOSTLY,
            ),
            Part(
                row="S0-36",
                says=f"a cane with memory (Lanczos) finds some in most, in {dials.products} products",
                estimate=nets(negative),
                region=MOSTLY,
            ),
            Part(
                row="S0-36",
                says="a step along what it found lowers the loss more than random steps do",
                estimate=paired_difference(falls[0], at_random),
                region=at_least(0.0),
            ),
            Part(
                row="S0-37",
                says=f"the Hessian of {dials.parameters:g} float32 parameters exceeds {dials.memory:g} GiB",
                estimate=exact(dials.parameters**2 * 4 / 2**30, unit="GiB"),
                region=at_least(dials.memory),
            ),
            Part(
                row="S0-37",
                says=f"a product with it costs {dials.gradients:g} gradients or more",
                estimate=exact(_cost(theta, loss), unit="gradients"),
                region=at_least(dials.gradients),
            ),
            Part(
                row="S0-37",
                says=f"its smallest eigenvalue needs {dials.needed:g} products a parameter in most nets",
                estimate=nets(costly),
                region=MOSTLY,
            ),
        )
        return Measurement(parts=parts, figure=_figure(found, felt))


def _data(dials: Dials) -> tuple[Tensor, Tensor]:
    """Digits of 4 x 4 pixels, shape (N, 16), float64, and their labels."""
    data = digits()
    pooled = data.x[: dials.samples].double().reshape(-1, 4, 2, 4, 2).mean((2, 4))
    return pooled.flatten(1), data.y[: dials.samples]


Loss = Callable[[Tensor], Tensor]
"""From parameters (R, P) to each network's loss, shape (R,)."""


def _train(net: FlatNet, dials: Dials, loss: Loss, generator: torch.Generator) -> Tensor:
    """Parameters part-way through training, shape (networks, P)."""
    theta = net.start(dials.networks, generator)
    if not dials.trained:
        return torch.zeros_like(theta)
    theta.requires_grad_()
    optimiser = torch.optim.Adam([theta], 0.01)
    for _ in range(dials.trained):
        optimiser.zero_grad()
        torch.autograd.backward(loss(theta).sum())
        optimiser.step()
    return theta.detach()


def _product(theta: Tensor, loss: Loss) -> Callable[[Tensor], Tensor]:
    """A function from v, shape (R, P), to each network's H v."""
    theta = theta.detach().requires_grad_()
    (g,) = torch.autograd.grad(loss(theta).sum(), theta, create_graph=True)

    def apply(v: Tensor) -> Tensor:
        (found,) = torch.autograd.grad((g * v).sum(), theta, retain_graph=True)
        return found

    return apply


def _unit(v: Tensor) -> Tensor:
    length: Tensor = v.norm(dim=-1, keepdim=True)
    return v / length


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What Lanczos' method found.

    Attributes:
        values: Smallest Ritz value after each product, shape (K, R).
        residuals: Its residual: an eigenvalue is as near as that, shape (K, R).
        needed: Products until the residual was small, shape (R,); inf for never.
        direction: The last Ritz vector, shape (R, P).
    """

    values: Tensor
    residuals: Tensor
    needed: Tensor
    direction: Tensor


def _lanczos(
    product: Callable[[Tensor], Tensor], theta: Tensor, dials: Dials, generator: torch.Generator
) -> _Found:
    q = _unit(torch.randn(theta.shape, generator=generator, dtype=torch.float64))
    basis, diagonal, beside = [q], [], []
    values, residuals, ritz = [], [], q
    for step in range(dials.products):
        w = product(basis[-1])
        diagonal.append((w * basis[-1]).sum(1))
        known = torch.stack(basis, 1)
        for _ in range(2):
            w = w - torch.einsum("rkp,rk->rp", known, torch.einsum("rkp,rp->rk", known, w))
        beside.append(w.norm(dim=1))
        basis.append(w / beside[-1][:, None])
        small = torch.diag_embed(torch.stack(diagonal, 1))
        if step:
            off = torch.stack(beside[:-1], 1)
            small = small + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
        ends = torch.linalg.eigh(small)
        values.append(ends.eigenvalues[:, 0])
        residuals.append((beside[-1] * ends.eigenvectors[:, -1, 0]).abs())
        ritz = torch.einsum("rkp,rk->rp", known, ends.eigenvectors[:, :, 0])
    v, r = torch.stack(values), torch.stack(residuals)
    done = (r <= dials.certified * v.abs()) & (v < 0)
    first = torch.where(done.any(0), done.double().argmax(0) + 1.0, torch.inf)
    return _Found(values=v, residuals=r, needed=first, direction=_unit(ritz))


def _fall(loss: Loss, theta: Tensor, step: Tensor) -> Tensor:
    """By how much the loss falls along the step or against it, whichever is better; shape (R,)."""
    with torch.no_grad():
        return loss(theta) - torch.minimum(loss(theta + step), loss(theta - step))


def _cost(theta: Tensor, loss: Loss) -> float:
    """Arithmetic of a gradient and a product together, over that of a gradient."""
    v = torch.ones_like(theta)

    def gradient(*, twice: bool) -> int:
        place = theta.detach().requires_grad_()
        with FlopCounterMode(display=False) as counter:
            (g,) = torch.autograd.grad(loss(place).sum(), place, create_graph=twice)
            if twice:
                torch.autograd.grad((g * v).sum(), place)
        return int(counter.get_total_flops())

    return gradient(twice=True) / gradient(twice=False)


def _figure(found: _Found, felt: Tensor) -> Figure:
    """Lanczos' smallest Ritz value in the first network, and what random probes feel there."""
    steps = range(1, len(found.values) + 1)
    value, residual = found.values[:, 0], found.residuals[:, 0]
    first = 4
    return Figure(
        title="Feeling for the most negative curvature of one network",
        x="products with the Hessian",
        y="curvature",
        lines=(
            line(
                "Lanczos, with its residual",
                list(steps)[first:],
                value[first:],
                low=(value - residual)[first:],
                high=(value + residual)[first:],
            ),
            line("smallest of as many random probes", range(1, len(felt) + 1), felt[:, 0].cummin(0).values),
            line("0", (1, len(found.values)), (0, 0), dashed=True),
        ),
    )
