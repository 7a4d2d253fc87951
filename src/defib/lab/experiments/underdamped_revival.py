"""Can a dead unit swing back to life?

Claim
-----
A unit that is never activated is useless forever: nothing will move it. Decay or momentum,
where they do free it, do so after a few steps.

Prediction
----------
With momentum mu, learning rate eta and decay lambda added to the gradient, a parameter without
gradient obeys p'' - (1 + mu - kappa) p' + mu p = 0 (p' one step later), kappa = eta lambda: a
pendulum with friction. All parameters of the unit share it, so its sum on every sample is one
factor A_k times the sum at the start. While kappa <= (1 - sqrt(mu))^2 the pendulum creeps: A_k
stays positive, the unit stays dead. Above, it swings: A_k becomes negative within
ceil(pi / theta) + 1 steps, cos(theta) = (1 + mu - kappa) / (2 sqrt(mu)), and then the unit fires
on every sample. Nesterov: the border is ((1 - mu) / (1 + mu))^2.

Method
------
Dead units with an empty buffer, torch's SGD with zero gradients; at momenta on both sides
of the border, the step at which a unit first fires.

References:
----------
Polyak 1964, Some methods of speeding up the convergence of iteration methods (heavy ball);
the border follows from the roots of the recurrence above.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, exact, median, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, line


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    units: int = dial(400, "dead units", quick=200)
    samples: int = dial(40, "samples that a unit sees")
    inputs: int = dial(8, "inputs of a unit, in [0, 1]")
    rate: float = dial(0.1, "learning rate")
    decay: float = dial(5e-4, "weight decay, added to the gradient")
    creeping: float = dial(0.9, "a momentum below the border")
    swinging: float = dial(0.99, "a momentum above the border")
    between: tuple[float, ...] = dial((0.5, 0.95, 0.98, 0.985, 0.995), "momenta that are drawn besides")
    steps: int = dial(3000, "steps with zero gradient", quick=1000)
    few: int = dial(20, "steps that still count as a few")
    some: float = dial(0.05, "share of units that counts as some")


class UnderdampedRevival(Experiment[Dials]):
    """Dead units under decay and momentum."""

    slug = "underdamped-revival"
    title = "Can decay and momentum together swing a dead unit back to life?"
    topic = Topic.ESCAPE
    rows = ("S2-2", "S0-7")
    dials = Dials
    perturbations = (
        Perturbation(
            why="with less momentum the pendulum creeps in both arms and no unit returns",
            dials={"swinging": 0.95},
            changes=("S2-2", "S0-7"),
        ),
        Perturbation(
            why="a decay far above the border makes both arms swing",
            dials={"decay": 0.1},
            changes=("S2-2",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        p, x = _dead_units(dials, run.torch(0))
        moments = sorted({dials.creeping, dials.swinging, *dials.between})
        first = {mu: _returns(p, x, mu, dials) for mu in run.track(moments)}
        bound = {mu: _bound(mu, dials) for mu in moments}

        def dead(mu: float, says: str) -> Part:
            still = int(first[mu].isinf().sum())
            return Part(
                row="S2-2",
                says=f"momentum {mu:g} ({says}): dead units stay dead; share",
                estimate=share(still, dials.units),
                region=at_least(1 - dials.some),
            )

        came = first[dials.swinging][first[dials.swinging].isfinite()]
        late = float((came - bound[dials.swinging]).max()) if len(came) else math.nan
        return Measurement(
            parts=(
                dead(dials.creeping, "below the border"),
                dead(dials.swinging, "above it"),
                Part(
                    row="S0-7",
                    says="they come back within the predicted number of steps; latest minus bound",
                    estimate=exact(late, n=len(came), unit="steps"),
                    region=at_most(0.0),
                ),
                Part(
                    row="S0-7",
                    says="and that is a few steps (median)",
                    estimate=median(came, unit="steps"),
                    region=at_most(dials.few),
                ),
            ),
            figure=_figure(dials, first, bound),
        )


def _dead_units(dials: Dials, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Parameters (U, D + 1) of dead units, the bias last, and inputs (N, D + 1), the last 1."""
    x = torch.rand(dials.samples, dials.inputs, generator=generator, dtype=torch.float64)
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    p = torch.randn(40 * dials.units, dials.inputs + 1, generator=generator, dtype=torch.float64)
    return p[(p @ x.T < 0).all(1)][: dials.units], x


def _returns(p: Tensor, x: Tensor, mu: float, dials: Dials) -> Tensor:
    """The step at which each unit first fires; infinite if it does not."""
    unit = torch.nn.Parameter(p.clone())
    optimiser = torch.optim.SGD([unit], lr=dials.rate, momentum=mu, weight_decay=dials.decay)
    unit.grad = torch.zeros_like(p)
    first = torch.full((len(p),), torch.inf, dtype=torch.float64)
    for step in range(1, dials.steps + 1):
        optimiser.step()
        with torch.no_grad():
            fires = (unit @ x.T > 0).any(1)
        first[fires & first.isinf()] = step
        if first.isfinite().all():
            break
    return first


def _bound(mu: float, dials: Dials) -> float:
    """Steps within which a unit must fire by the formula of the page; infinite below the border."""
    kappa = dials.rate * dials.decay
    if kappa <= (1 - math.sqrt(mu)) ** 2:
        return math.inf
    cosine = (1 + mu - kappa) / (2 * math.sqrt(mu))
    return math.ceil(math.pi / math.acos(max(cosine, -1.0))) + 1


def _figure(dials: Dials, first: dict[float, Tensor], bound: dict[float, float]) -> Figure:
    """Where a unit returned and by when it must; what did not is at the top."""
    top = float(dials.steps)
    moments = list(first)
    border = (1 - math.sqrt(dials.rate * dials.decay)) ** 2
    return Figure(
        title=f"First step at which a dead unit fires ({dials.steps}: not seen)",
        x="1 - momentum",
        y="step",
        kind=Kind.POINTS,
        log_x=True,
        log_y=True,
        lines=(
            line(
                "median unit",
                [1 - mu for mu in moments],
                [min(float(first[mu].median()), top) for mu in moments],
            ),
            line("bound", [1 - mu for mu in moments], [min(bound[mu], top) for mu in moments], dashed=True),
            line("border", (1 - border, 1 - border), (1, top), dashed=True),
        ),
    )
