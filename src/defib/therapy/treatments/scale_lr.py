"""Multiply the learning rate by a factor.

What it does:
    Every parameter group's ``lr`` is multiplied by the same factor, and so is the
    base that a scheduler computes it from, so that a schedule keeps its shape.

When it helps:
    Steps overshoot: along the last step the gradient turned round, updates are as
    large as the weights, the loss runs away, or units die of single updates. Or
    steps are too small: all updates together did not lead far and still point the
    same way.

When it does not:
    A unit that is dead already is not brought back by smaller steps. A loss that
    cannot be lowered (labels that say nothing, a graph that is cut) stays where it
    is at any rate.

Dose:
    ``factor``: new over old learning rate. From the measured overshoot of the step
    where there is one, so that a step ends at the minimum of its own line; a tenth
    for a rate that is too high and ten times for one that is too low where there
    is none, which is the spacing at which rates are usually searched.

Safety:
    Parameters and moments stay as they are. The stored momentum of SGD is a sum of
    gradients and is multiplied by the new rate from the next step on.

References:
    Goyal et al. 2017 (arXiv 1706.02677), section 2.2: momentum and a changing rate.
"""

from collections.abc import Sequence
from random import Random
from typing import ClassVar

import torch
from torch import nn

from defib.core.errors import Refused
from defib.core.finding import Cause, Finding
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.therapy.surgery import Surgery
from defib.therapy.train_state import TrainState
from defib.therapy.treatment import Case, Indication, Treatment


def _trained(lr: float = 1.0) -> TrainState:
    """A layer with a momentum buffer and a scheduler."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return TrainState(model=model, optimizers=(optimizer,), schedulers=(scheduler,))


def _rate(state: TrainState) -> float:
    return float(state.optimizers[0].param_groups[0]["lr"])


class ScaleLr(Treatment):
    """Multiplies every group's learning rate."""

    slug = "scale-lr"
    title = "Multiply the learning rate"
    safety = Safety.SETTINGS
    indications = (
        Indication(rule="lr-too-high", strength=0.9, why="smaller steps no longer overshoot"),
        Indication(rule="lr-too-low", strength=0.9, why="larger steps get there within the budget"),
        Indication(
            rule="dead-unit",
            causes=(Cause.DIED_AT_STEP,),
            strength=0.5,
            why="the killing update was larger than the unit's distance from death",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a tenth of the rate, in the group and in the schedule",
            build=_trained,
            dose={"factor": 0.1},
            holds=lambda s: abs(_rate(s) - 0.1) < 1e-12 and abs(s.schedulers[0].base_lrs[0] - 0.1) < 1e-12,
            preserves=True,
            inputs=lambda: (torch.ones(1, 3),),
        ),
        Case(name="a factor of zero would stop it", build=_trained, dose={"factor": 0.0}, refused=True),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        del run
        return {"factor": 10.0 if finding.rule == "lr-too-low" else 0.1}

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del layers
        return {"factor": draw.choice((0.1, 10.0))}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        factor = dose.get("factor")
        if not isinstance(factor, (int, float)) or not 0 < factor < float("inf"):
            raise Refused(f"scale-lr needs a positive factor, not {factor!r}")
        for optimizer in surgery.state.optimizers:
            for index, group in enumerate(optimizer.param_groups):
                for key in ("lr", "initial_lr"):
                    if key in group:
                        surgery.setting(optimizer, index, key, group[key] * factor)
        for scheduler in surgery.state.schedulers:
            if hasattr(scheduler, "base_lrs"):
                scaled = [rate * factor for rate in scheduler.base_lrs]
                surgery.attribute(f"{type(scheduler).__name__}.base_lrs", scheduler, "base_lrs", scaled)
