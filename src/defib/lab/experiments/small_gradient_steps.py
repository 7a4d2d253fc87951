"""Do small gradients mean that more repetitions are needed?

Claim
-----
Small gradients mean that more repetitions are needed.

Prediction
----------
Multiply a loss by c < 1: all gradients shrink by c, the minima stay. A step of plain
descent is eta g, so the number of steps grows as 1 / c: slope 1 of log(steps) against
log(1 / c). Adam's step is eta m / (sqrt(v) + eps), where m and sqrt(v) both carry the factor
c: it cancels, slope 0, until sqrt(v) falls to the size of eps (1e-8 by default). From there on
Adam, too, needs 1 / c times as many.

Method
------
Random quadratic bowls times c; steps until the distance to the minimum is a tenth of what it
was; slopes of log10(steps) against log10(1 / c), bowl by bowl. Plain descent and Adam by
torch, Adam once with gradients far above its eps and once with gradients below it.

References:
----------
Kingma, Ba 2015, Adam (section 2.1: invariance to a rescaling of the gradients).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import at_least, mean, near
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    bowls: int = dial(400, "random bowls", quick=100, paper=2000)
    size: int = dial(5, "parameters of a bowl")
    factors: tuple[float, ...] = dial((1.0, 0.3, 0.1, 0.03), "factors c, for plain descent and for Adam")
    below_eps: tuple[float, ...] = dial(
        (0.3, 0.1, 0.03), "size of the gradients relative to Adam's eps, where that is what matters"
    )
    eps: float = dial(1e-8, "Adam's eps")
    rate: float = dial(0.5, "learning rate of plain descent; 2 would be unstable")
    adam_rate: float = dial(0.05, "learning rate of Adam")
    tolerance: float = dial(0.1, "how far a slope may be from 1")
    slope: float = dial(0.5, "smallest slope that counts as 'more repetitions' for Adam")
    limit: int = dial(6000, "steps after which a run is given up")


class SmallGradientSteps(Experiment[Dials]):
    """Bowls scaled down, descended by SGD and by Adam."""

    slug = "small-gradient-steps"
    title = "Do small gradients mean that more repetitions are needed?"
    topic = Topic.GRADIENTS
    rows = ("S4-4",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="with an eps far above every gradient Adam no longer normalises: it needs more steps as well",
            dials={"eps": 10.0, "adam_rate": 5.0, "below_eps": (0.03, 0.01, 0.003)},
            changes=("S4-4",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        curvature, start = _bowls(dials, run.torch(0))
        plain = [_steps(dials, curvature * c, start, "sgd") for c in run.track(dials.factors)]
        adam = [_steps(dials, curvature * c, start, "adam") for c in dials.factors]
        tiny = [c * dials.eps for c in dials.below_eps]
        below = [_steps(dials, curvature * c, start, "adam") for c in tiny]
        slopes = {
            "plain descent": _slopes(plain, dials.factors),
            "Adam, gradients above eps": _slopes(adam, dials.factors),
            "Adam, gradients below eps": _slopes(below, tiny),
        }
        judged = (
            ("in proportion, slope 1", near(1.0, dials.tolerance)),
            (f"slope {dials.slope:g} or more", at_least(dials.slope)),
            (f"slope {dials.slope:g} or more", at_least(dials.slope)),
        )
        return Measurement(
            parts=tuple(
                Part(
                    row="S4-4",
                    says=f"{name}: smaller gradients need more steps ({how})",
                    estimate=mean(slope, unit="decades per decade"),
                    region=region,
                )
                for (name, slope), (how, region) in zip(slopes.items(), judged, strict=True)
            ),
            figure=_figure(dials, plain, adam, below),
        )


def _bowls(dials: Dials, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Curvatures along the axes, from 0.3 to 1, and starting points of norm 1, in float64."""
    shape = (dials.bowls, dials.size)
    curvature = 0.3 + 0.7 * torch.rand(shape, generator=generator, dtype=torch.float64)
    start = torch.randn(shape, generator=generator, dtype=torch.float64)
    return curvature, start / start.norm(dim=1, keepdim=True)


def _steps(dials: Dials, curvature: Tensor, start: Tensor, kind: str) -> Tensor:
    """Steps until a tenth of the distance is left, shape (bowls,); inf for given up."""
    w = start.clone().requires_grad_()
    optimiser: torch.optim.Optimizer
    if kind == "sgd":
        optimiser = torch.optim.SGD([w], dials.rate)
    else:
        optimiser = torch.optim.Adam([w], dials.adam_rate, eps=dials.eps)
    needed = torch.full((len(start),), math.inf, dtype=torch.float64)
    for step in range(1, dials.limit + 1):
        w.grad = curvature * w.detach()
        optimiser.step()
        arrived = (w.detach().norm(dim=1) <= 0.1) & needed.isinf()
        needed[arrived] = step
        if step % 20 == 0 and bool(needed.isfinite().all()):
            break
    return needed


def _slopes(needed: list[Tensor], factors: Iterable[float]) -> Tensor:
    """Of log10(steps) against log10(1 / c), shape (bowls,)."""
    x = -torch.tensor(list(factors), dtype=torch.float64).log10()
    x = x - x.mean()
    return (x[:, None] * torch.stack(needed).log10()).sum(0) / x.square().sum()


def _figure(dials: Dials, plain: list[Tensor], adam: list[Tensor], below: list[Tensor]) -> Figure:
    sizes, steps = list(dials.factors), [float(n.median()) for n in plain]
    adam_sizes = [*dials.factors, *(c * dials.eps for c in dials.below_eps)]
    adam_steps = [float(n.median()) for n in (*adam, *below)]
    return Figure(
        title="Steps to a tenth of the distance",
        x="factor c of the loss",
        y="steps (median)",
        lines=(
            line("plain descent", sizes[::-1], steps[::-1]),
            line("Adam", adam_sizes[::-1], adam_steps[::-1]),
            line("steps at c = 1, over c", sizes[::-1], [steps[0] / c for c in sizes[::-1]], dashed=True),
        ),
        log_x=True,
        log_y=True,
    )
