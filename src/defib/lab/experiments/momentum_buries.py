"""Does momentum bring dead units back, or does it bury them?

Claim
-----
Momentum keeps weights moving after the gradient became zero, and so can bring a dead unit
back: a unit should be dead less often at the end of a training with momentum.

Prediction
----------
None in closed form for training as a whole. For one unit: momentum carries it on in the
direction that killed it. If targets are small against what the unit puts out at the start,
the first gradients push it down for many steps, and momentum mu adds their sum: it overshoots
into the dead zone, where nothing brakes it. At equal effective learning rate eta/(1-mu)
the share of dead units should rise with mu, the more the smaller the targets.

Method
------
A single ReLU unit, y = relu(w x + b), is fitted to a teacher of the same form whose outputs
are multiplied by a scale, by gradient descent on the full batch; many units at once, the same
draws for every momentum. At the end a unit is dead if it is negative for all its samples.

References:
----------
Arnekvist, Carvalho, Kragic, Stork 2020, The effect of target normalization and momentum on
dying ReLU: dying grows with momentum for small targets (no figure of theirs is compared).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from defib.lab.dials import dial
from defib.lab.estimate import at_most, paired_difference, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import relu


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    units: int = dial(600, "single units trained", quick=150, paper=5000)
    samples: int = dial(64, "samples of each")
    inputs: int = dial(8, "inputs of a unit, normal")
    effective_rate: float = dial(0.5, "learning rate over 1 - momentum")
    moments: tuple[float, ...] = dial((0.0, 0.5, 0.9, 0.99), "momentum of each arm; the first is the control")
    scales: tuple[float, ...] = dial((1.0, 0.1, 0.01), "deviation of the targets; the last is judged")
    steps: int = dial(400, "steps without momentum; with it, this over sqrt(1 - momentum)", quick=200)
    slope: float = dial(0.0, "slope of the activation for negative inputs; 0 is ReLU")
    some: float = dial(0.02, "share of units that counts as some")


class MomentumBuries(Experiment[Dials]):
    """Single units trained with more and more momentum."""

    slug = "momentum-buries"
    title = "Does momentum bring dead units back, or does it bury them?"
    topic = Topic.ESCAPE
    rows = ("S0-4",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="a leaky unit gets gradient where it is negative and comes back",
            dials={"slope": 0.3},
            changes=("S0-4",),
        ),
        Perturbation(
            why="large targets need no shrinking: nothing pushes units down for long",
            dials={"scales": (1.0,)},
            changes=("S0-4",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        dead = {
            (scale, mu): _dead(dials, run, scale, mu)
            for scale in run.track(dials.scales)
            for mu in dials.moments
        }
        small = dials.scales[-1]
        control = dead[small, dials.moments[0]].astype(float)
        return Measurement(
            parts=tuple(
                Part(
                    row="S0-4",
                    says=f"with momentum {mu:g} no more units are dead than with none (targets {small:g})",
                    estimate=paired_difference(dead[small, mu].astype(float), control),
                    region=at_most(dials.some),
                )
                for mu in dials.moments[1:]
            ),
            figure=_figure(dials, dead),
        )


def _dead(dials: Dials, run: LabRun, scale: float, mu: float) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Which units are dead at the end; the draws are the same for every scale and momentum.

    Letters: U units, N samples, D inputs; the last of D + 1 columns is the bias.

    Returns:
        Shape (U,).
    """
    generator = run.torch(0)
    shape = (dials.units, dials.samples, dials.inputs)
    x = torch.randn(shape, generator=generator)
    deviation = 1 / math.sqrt(dials.inputs)
    teacher = torch.randn(dials.units, dials.inputs, 1, generator=generator) * deviation
    w = torch.randn(dials.units, dials.inputs, 1, generator=generator) * deviation
    y = torch.relu(x @ teacher) * scale
    x = torch.cat([x, torch.ones_like(x[..., :1])], -1)
    p = torch.cat([w, torch.zeros_like(w[:, :1])], 1)
    act = relu(dials.slope)
    back = x.transpose(1, 2).contiguous() * (2 / dials.samples)
    velocity = torch.zeros_like(p)
    rate = dials.effective_rate * (1 - mu)
    for _ in range(round(dials.steps / math.sqrt(1 - mu))):
        s = x @ p
        error = (act(s) - y) * torch.where(s > 0, 1.0, dials.slope)
        velocity.mul_(mu).add_(back @ error)
        p.sub_(rate * velocity)
    return (x @ p <= 0).all(1).squeeze(1).numpy()


def _figure(
    dials: Dials, dead: "dict[tuple[float, float], np.ndarray[tuple[int], np.dtype[np.bool_]]]"
) -> Figure:
    lines = []
    for scale in dials.scales:
        shares = [share(int(dead[scale, mu].sum()), dials.units) for mu in dials.moments]
        lines.append(
            line(
                f"targets of deviation {scale:g}",
                [1 / (1 - mu) for mu in dials.moments],
                [s.value for s in shares],
                low=[s.low for s in shares],
                high=[s.high for s in shares],
            )
        )
    return Figure(
        title="Dead units after training, at equal effective learning rate",
        x="1 / (1 - momentum)",
        y="share of dead units",
        log_x=True,
        lines=tuple(lines),
    )
