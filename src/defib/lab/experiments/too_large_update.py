"""How large may an update be before it kills a unit?

Claim
-----
Too large an update kills units.

Prediction
----------
While what feeds a unit stays as it is, a step changes its sum on input x from s(x) to s(x) +
alpha d(x), where d is the change by the whole step and alpha its scale. The unit survives
any scale below

    alpha* = max over x with s(x) > 0 of s(x) / -d(x),      (infinite if such a d(x) >= 0)

and at alpha* its last sample falls silent. Too large is therefore a number, unit by unit.

Method
------
Nets with one hidden layer on the digits, pixels in [0, 1]. In the first layer of each, the
step that momentum proposes is scaled to 0.999 and to 1.001 alpha* of every unit, and the
unit is looked at: alive, dead? Then whole trainings at small and at large learning rates.

References:
----------
The factor follows from the formula above; no paper is known to us that states it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.data import Split, digits
from defib.lab.dials import dial
from defib.lab.estimate import Region, at_least, at_most, mean, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import batches, relu
from defib.lab.stacks import dead, draw, fit


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(8, "networks trained", paper=40)
    probes: int = dial(60, "networks of which a step is scaled", quick=16)
    width: int = dial(64, "hidden units")
    rates: tuple[float, ...] = dial(
        (0.03, 0.1, 0.3, 1.0, 3.0), "learning rates, smallest to largest", quick=(0.03, 3.0)
    )
    momentum: float = dial(0.9, "momentum of SGD")
    batch: int = dial(64, "samples of a batch")
    steps: int = dial(200, "steps of training", quick=60)
    warm: int = dial(20, "steps before the one that is scaled")
    warm_rate: float = dial(0.05, "learning rate of these and of that step")
    margin: float = dial(1e-3, "how far below and above alpha* the step is scaled, relatively")
    slope: float = dial(0.0, "slope of the activation for negative inputs; 0 is ReLU")
    centred: bool = dial(False, "whether the inputs are centred")
    many: float = dial(0.5, "share of units that counts as a common death")
    some: float = dial(0.1, "share of units that counts as few")


class TooLargeUpdate(Experiment[Dials]):
    """Scaling a step to just below and just above what a unit survives."""

    slug = "too-large-update"
    title = "How large may an update be before it kills a unit?"
    topic = Topic.DYING_RELU
    rows = ("S1-3",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="with rates a hundred times smaller no update is too large",
            dials={"rates": (3e-4, 1e-3, 0.03)},
            changes=("S1-3",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        data = digits(centred=dials.centred)
        factor, below, above = _scaled_steps(data, dials, run.torch(0))
        deaths = {r: _deaths(data, r, dials, run.torch(1)) for r in run.track(dials.rates)}
        n = len(factor)
        low, high = dials.rates[0], dials.rates[-1]

        def part(says: str, dead_units: Tensor, region: Region) -> Part:
            return Part(row="S1-3", says=says, estimate=share(int(dead_units.sum()), n), region=region)

        return Measurement(
            parts=(
                part("just below alpha* a step kills no unit; share killed", below, at_most(dials.some)),
                part("just above it it kills; share killed", above, at_least(1 - dials.some)),
                Part(
                    row="S1-3",
                    says=f"training with small updates (rate {low:g}) leaves few units dead",
                    estimate=mean(deaths[low]),
                    region=at_most(dials.some),
                ),
                Part(
                    row="S1-3",
                    says=f"training with large ones (rate {high:g}) kills most",
                    estimate=mean(deaths[high]),
                    region=at_least(dials.many),
                ),
            ),
            figure=_figure(deaths),
            note=f"Of {dials.probes * dials.width} units, {n} had a finite alpha* for the step looked at: "
            f"median {float(factor.median()) if n else float('nan'):.3g}.",
        )


def _scaled_steps(data: Split, dials: Dials, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Finite alpha* of the units of the first layer, and whether each is dead below and above it.

    Letters: R networks, N samples, H units.

    Returns:
        Three tensors of as many units.
    """
    act = relu(dials.slope)
    stack = draw(dials.probes, (data.x.shape[1], dials.width, 10), generator, dtype=torch.float64)
    optimiser = torch.optim.SGD(stack.parameters(), lr=dials.warm_rate, momentum=dials.momentum)
    x = data.x.double()
    order = list(batches(len(x), dials.batch, dials.warm + 1, generator))
    fit(stack, optimiser, x, data.y, order[:-1], act)
    before = stack.sums(x, act)[0].detach()

    def end() -> tuple[Tensor, Tensor]:
        """Weights (R, H, D) and biases (R, H, 1) of the first layer."""
        return stack.weights[0].detach().clone(), stack.biases[0].detach().clone().transpose(1, 2)

    start = end()
    fit(stack, optimiser, x, data.y, order[-1:], act)
    change = stack.sums(x, act)[0].detach() - before
    lasts = torch.where(change < 0, before / -change, torch.inf)
    factor = torch.where(before > 0, lasts, -torch.inf).amax(1)
    known = factor.isfinite()

    def dead_at(scale: float) -> Tensor:
        # The weights themselves are scaled back, not the sums that alpha* was computed from.
        part = (scale * factor.nan_to_num(0, 0, 0))[..., None]
        with torch.no_grad():
            weight, bias = (old + part * (new - old) for old, new in zip(start, end(), strict=True))
            return dead(x @ weight.transpose(1, 2) + bias.transpose(1, 2))[known]

    return factor[known], dead_at(1 - dials.margin), dead_at(1 + dials.margin)


def _deaths(data: Split, rate: float, dials: Dials, generator: torch.Generator) -> list[float]:
    """The share of each network's hidden units that is dead after training."""
    stack = draw(dials.networks, (data.x.shape[1], dials.width, 10), generator)
    optimiser = torch.optim.SGD(stack.parameters(), lr=rate, momentum=dials.momentum)
    order = batches(len(data.x), dials.batch, dials.steps, generator)
    fit(stack, optimiser, data.x, data.y, order, relu(dials.slope))
    with torch.no_grad():
        return list(dead(stack.sums(data.x, relu(dials.slope))[0]).double().mean(1))


def _figure(deaths: dict[float, list[float]]) -> Figure:
    ends = [mean(s) for s in deaths.values()]
    return Figure(
        title="Dead units of the first layer after training on the digits",
        x="learning rate",
        y="share of dead units",
        log_x=True,
        lines=(
            line(
                "measured",
                deaths,
                [e.value for e in ends],
                low=[e.low for e in ends],
                high=[e.high for e in ends],
            ),
        ),
    )
