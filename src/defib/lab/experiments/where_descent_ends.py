"""Does gradient descent end in local minima, and is that what makes it fail?

Claim
-----
Gradient descent goes against the steepest increase and ends in a local minimum. Local minima
make plain gradient descent useless. And: because of the small steps training converges at a
local minimum.

Prediction
----------
The negative gradient is the direction of steepest decrease (the inequality of Cauchy and
Schwarz), so the first half of the first claim is right. Where descent ends depends on where it
begins: from weights that are all zero it stays at a saddle, because the gradient keeps the
symmetry. Narrow nets do have bad minima and some runs end in them; wide nets on the same data
come near loss 0 from every random start. And the size of the steps makes no minima: small
steps follow the same path as larger stable ones, they only follow it more slowly. After as
many steps they have come less far, and after the same distance (rate times steps) to the
same place. It would be otherwise in a landscape rippled more finely than the larger step.

Method
------
One hidden tanh layer, two inputs, random data sets, squared loss relative to the variance of
the targets, full-batch descent in float64; at its end the gradient and the smallest eigenvalue
of the Hessian.

References:
----------
Dauphin et al. 2014, Identifying and attacking the saddle point problem; Goodfellow, Vinyals,
Saxe 2015, Qualitatively characterizing neural network optimization problems.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap

from defib.lab.dials import dial
from defib.lab.estimate import Estimate, at_least, exact, grouped_share, mean
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.flat import FlatNet, hessian


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    data_sets: int = dial(100, "random data sets", quick=60, paper=300)
    starts: int = dial(4, "starts on each data set")
    narrow: int = dial(2, "hidden units of the narrow nets; 0 is a linear model")
    wide: int = dial(24, "hidden units of the wide nets; 0 is a linear model")
    samples: int = dial(10, "samples of a data set")
    rate: float = dial(0.1, "learning rate")
    steps: int = dial(4000, "steps", quick=1500)
    slowdown: int = dial(4, "by how much the small steps are smaller")
    ripple: float = dial(0.0, "height of a ripple that is added to the loss")
    pitch: float = dial(100.0, "waves of the ripple per 2 pi of a parameter")
    poor: float = dial(0.2, "a loss above the best start's by this share of the variance is a bad end")
    still: float = dial(1e-2, "gradient norm below which descent has ended")
    saddle: float = dial(1e-2, "negative curvature beyond this makes an end a saddle")
    most: float = dial(0.9, "share of runs that counts as all but accidents")
    difference: float = dial(0.02, "difference of relative losses that counts")


class WhereDescentEnds(Experiment[Dials]):
    """Ends of gradient descent from random and from symmetric starts."""

    slug = "where-descent-ends"
    title = "Does gradient descent end in local minima, and is that what makes it fail?"
    topic = Topic.STATIONARY
    rows = ("S0-35", "S1-4", "S4-18")
    dials = Dials
    perturbations = (
        Perturbation(
            why="a linear model has one minimum: every end is that, none is bad",
            dials={"narrow": 0, "wide": 0},
            changes=("S0-35", "S1-4"),
        ),
        Perturbation(
            why="in a finely rippled landscape small steps do get caught, where larger ones hop on",
            dials={"ripple": 0.03},
            changes=("S4-18",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        narrow = _Task(dials, dials.narrow, run.torch(0))
        wide = _Task(dials, dials.wide, run.torch(1))
        ends = narrow.descend(narrow.random, dials.rate, dials.steps)
        symmetric = narrow.descend(torch.zeros_like(narrow.random), dials.rate, dials.steps)
        broad = wide.descend(wide.random, dials.rate, dials.steps)
        slow = narrow.descend(narrow.random, dials.rate / dials.slowdown, dials.steps)
        slow_far = narrow.descend(slow, dials.rate / dials.slowdown, dials.steps * (dials.slowdown - 1))
        still = narrow.slope(slow) < dials.still
        bad = narrow.bad(ends) & narrow.minimal(ends)
        most = dials.most
        statements = (
            (
                "S1-4",
                "no random direction is steeper than the gradient's",
                narrow.steepest(run.torch(2)),
                most,
            ),
            (
                "S1-4",
                "from weights all zero descent ends in a local minimum",
                narrow.minimal(symmetric),
                most,
            ),
            ("S0-35", f"with {dials.wide} hidden units most runs end badly", wide.bad(broad), 0.5),
            (
                "S4-18",
                f"{dials.slowdown} times smaller steps, as many, also end with gradient 0",
                still,
                most,
            ),
        )
        parts = [
            Part(
                row="S0-35",
                says=f"with {dials.narrow} hidden units some runs end in bad minima",
                estimate=exact(int(bad.sum()), n=len(bad), unit="runs"),
                region=at_least(1.0),
            )
        ]
        parts += [
            Part(row=row, says=says, estimate=narrow.share(which), region=at_least(low))
            for row, says, which, low in statements
        ]
        parts.append(
            Part(
                row="S4-18",
                says="and after the same distance they end higher, in some minimum",
                estimate=mean(
                    narrow.by_data(narrow.loss(slow_far) - narrow.loss(ends)), unit="share of variance"
                ),
                region=at_least(dials.difference),
            )
        )
        drawn = {
            f"{dials.narrow} units": narrow.loss(ends),
            f"{dials.wide} units": wide.loss(broad),
            f"{dials.narrow} units, zero start": narrow.loss(symmetric),
            f"{dials.narrow} units, small steps, as many": narrow.loss(slow),
            f"{dials.narrow} units, small steps, as far": narrow.loss(slow_far),
        }
        return Measurement(parts=tuple(parts), figure=_figure(drawn), note=_note(narrow, ends))


class _Task:
    """Data sets, some runs on each, and what descent does there. R runs, H hidden units.

    Args:
        dials: The settings.
        width: H.
        generator: Of data and starts.
    """

    def __init__(self, dials: Dials, width: int, generator: torch.Generator) -> None:
        self.dials = dials
        self.net = FlatNet(sizes=(2, width, 1) if width else (2, 1), activation=torch.tanh)
        shape = (dials.data_sets, dials.samples)
        x = torch.randn(*shape, 2, generator=generator, dtype=torch.float64)
        y = torch.randn(shape, generator=generator, dtype=torch.float64)
        y = y - y.mean(1, keepdim=True)
        y = y / y.square().mean(1, keepdim=True).sqrt()
        self.x, self.y = (data.repeat_interleave(dials.starts, 0) for data in (x, y))
        self.random = self.net.start(len(self.x), generator, gain=1.5, bias=0.5)

    def by_data(self, which: Tensor) -> Tensor:
        """The mean over the runs on each data set, shape (data_sets,)."""
        return which.double().reshape(self.dials.data_sets, -1).mean(1)

    def share(self, which: Tensor) -> Estimate:
        """The share of runs; those on the same data are one repetition."""
        hits = which.reshape(self.dials.data_sets, -1).sum(1)
        return grouped_share(hits, torch.full_like(hits, self.dials.starts))

    def bad(self, theta: Tensor) -> Tensor:
        """Whether another run on the same data ended much lower, shape (R,)."""
        losses = self.loss(theta).reshape(self.dials.data_sets, -1)
        return (losses > losses.amin(1, keepdim=True) + self.dials.poor).flatten()

    def _gradient(self, theta: Tensor) -> Tensor:
        """Of the mean squared error and the ripple; by hand, since descent spends its time here."""
        hidden = len(self.net.sizes) == 3
        width = self.net.sizes[1] if hidden else 0
        h = self.x
        if hidden:
            weight, bias = theta[:, : 2 * width].reshape(-1, width, 2), theta[:, 2 * width : 3 * width]
            h = torch.tanh(torch.baddbmm(bias[:, None], self.x, weight.transpose(1, 2)))
        v, c = theta[:, 3 * width : -1], theta[:, -1:]
        error = ((h @ v[..., None])[..., 0] + c - self.y) * (2 / self.dials.samples)
        by_v = (error[:, None] @ h)[:, 0]
        parts = [by_v, error.sum(1, keepdim=True)]
        if hidden:
            delta = error[..., None] * v[:, None] * (1 - h.square())
            parts = [(delta.transpose(1, 2) @ self.x).flatten(1), delta.sum(1), *parts]
        found = torch.cat(parts, 1)
        if self.dials.ripple:
            found = found + self.dials.ripple * self.dials.pitch / theta.shape[1] * torch.sin(
                self.dials.pitch * theta
            )
        return found

    def _one(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return (self.net(theta, x)[:, 0] - y).square().mean()

    def _rippled(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        if not self.dials.ripple:
            return self._one(theta, x, y)
        ripple = (1 - torch.cos(self.dials.pitch * theta)).mean()
        return self._one(theta, x, y) + self.dials.ripple * ripple

    def _of_all(self, function: Callable[..., Tensor], theta: Tensor) -> Tensor:
        found: Tensor = vmap(function)(theta, self.x, self.y)
        return found

    def loss(self, theta: Tensor) -> Tensor:
        """Of the data alone, relative to the variance of the targets, shape (R,)."""
        return self._of_all(self._one, theta)

    def slope(self, theta: Tensor) -> Tensor:
        """Norm of the gradient, shape (R,)."""
        norms: Tensor = self._gradient(theta).norm(dim=1)
        return norms

    def descend(self, theta: Tensor, rate: float, steps: int) -> Tensor:
        """Where so many steps lead, shape (R, P)."""
        for _ in range(steps):
            theta = theta - rate * self._gradient(theta)
        return theta

    def minimal(self, theta: Tensor) -> Tensor:
        """Whether the gradient is small and no curvature is clearly negative, shape (R,)."""
        lowest = torch.linalg.eigvalsh(self._of_all(hessian(self._rippled), theta))[:, 0]
        found: Tensor = (self.slope(theta) < self.dials.still) & (lowest > -self.dials.saddle)
        return found

    def steepest(self, generator: torch.Generator) -> Tensor:
        """Whether a short way against the gradient falls more than a hundred random ways, shape (R,)."""
        short = 1e-6
        g = self._gradient(self.random)
        here = self._of_all(self._rippled, self.random)
        best = here - self._of_all(self._rippled, self.random - short * g / g.norm(dim=1, keepdim=True))
        held = torch.ones_like(best, dtype=torch.bool)
        for _ in range(100):
            v = torch.randn(self.random.shape, generator=generator, dtype=torch.float64)
            place = self.random + short * v / v.norm(dim=1, keepdim=True)
            held &= here - self._of_all(self._rippled, place) <= best
        return held


def _figure(drawn: dict[str, Tensor]) -> Figure:
    lines = []
    for name, losses in drawn.items():
        runs = len(losses)
        lines.append(line(name, [k / runs for k in range(runs)], losses.sort().values.clamp(min=1e-12)))
    return Figure(
        title="Where descent ends",
        x="share of runs that end lower",
        y="loss relative to the variance of the targets",
        lines=tuple(lines),
        log_y=True,
    )


def _note(task: _Task, ends: Tensor) -> str:
    bad, minimal = task.bad(ends), task.minimal(ends)
    told = f"Of {len(bad)} random starts {int(bad.sum())} end badly: {int((bad & minimal).sum())} of these in"
    return f"{told} minima, {int((bad & ~minimal).sum())} at saddles or still moving."
