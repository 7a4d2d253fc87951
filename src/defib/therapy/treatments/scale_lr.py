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
    ``factor``: new over old learning rate. One over the measured overshoot of the
    steps where there is one, so that a step ends at the minimum of its own line; nine tenths of what brings
    the measured rate x curvature down to what the optimiser can follow; nine tenths of the
    death-free factor of the step that killed most, times less than which it kills nobody; what brings
    updates that are larger than a tenth of the weights to a hundredth of them, and a single one that is
    larger than the weights to a tenth; of several the smallest,
    as each is needed; for a rate that is too
    low what would have walked the weights' own size in as many steps, from 10 to 1,000. Without such a
    number a tenth, or ten times, which is the spacing at which rates are usually searched.
    ``lr``: instead, the rate itself, for groups in which it is 0.

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

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.therapy.steps import before_updates, number_of, positive, rounded, stepping
from defib.therapy.surgery import Surgery
from defib.therapy.train_state import TrainState
from defib.therapy.treatment import Case, Indication, Treatment
from defib.therapy.unit_evidence import death_free


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


_USUAL = {"SGD": 0.01, "RMSprop": 0.01, "Adagrad": 0.01, "Adadelta": 1.0, "Rprop": 0.01}
"""Torch's own defaults, where a run never had a rate; 1e-3 for Adam's kind."""


class ScaleLr(Treatment):
    """Multiplies every group's learning rate."""

    slug = "scale-lr"
    title = "Multiply the learning rate"
    safety = Safety.SETTINGS
    indications = (
        Indication(rule="lr-too-high", strength=0.9, why="smaller steps no longer overshoot"),
        Indication(rule="lr-too-low", strength=0.9, why="larger steps get there within the budget"),
        Indication(rule="exploding-gradient", strength=0.55, why="smaller steps do not grow on each other"),
        Indication(
            rule="non-finite",
            causes=(Cause.NON_FINITE_UPDATE, Cause.NON_FINITE_FORWARD, Cause.NON_FINITE_LOSS),
            strength=0.5,
            why="weights that grow from step to step overflow in the end; smaller steps do not",
        ),
        Indication(
            rule="constant-predictor",
            causes=(Cause.NO_RELATION, Cause.RELATION_UNUSED),
            strength=0.3,
            why="steps at which nothing settles look like labels that say nothing",
        ),
        Indication(
            rule="not-learning",
            strength=0.42,
            why="where no other cause was found, the rate is what is searched first, upwards",
        ),
        Indication(
            rule="dead-unit",
            causes=(Cause.DIED_AT_STEP,),
            strength=0.72,
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
        Case(
            name="a rate of zero becomes one",
            build=lambda: stepping(lr=0.0),
            dose={"lr": 0.1},
            holds=lambda s: _rate(s) == 0.1,
        ),
        Case(name="no rate is zero", build=_trained, dose={"lr": 0.1}, refused=True),
        Case(name="a factor of zero would stop it", build=_trained, dose={"factor": 0.0}, refused=True),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        if before_updates(finding):
            return None
        if finding.cause is Cause.LR_ZERO:
            rates = [rate for o in run.optimizers for rate in o.lr.values if rate > 0]
            usual = _USUAL.get(run.optimizers[0].kind, 1e-3) if run.optimizers else 0.01
            return {"lr": rounded(max(rates)) if rates else usual}
        if finding.rule == "lr-too-low":
            walked = number_of(finding, "way walked in the whole run over the size of the weights")
            return {"factor": rounded(min(1000.0, max(10.0, 1 / walked))) if walked > 0 else 10.0}
        if finding.rule == "not-learning":
            return {"factor": 10.0}
        return {"factor": rounded(_smaller(finding, death_free(run, finding)))}

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del layers
        return {"factor": draw.choice((0.1, 10.0))}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        if "lr" in dose:
            self._from_zero(surgery, positive(dose, "lr", self.slug))
            return
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

    def _from_zero(self, surgery: Surgery, lr: float) -> None:
        """Gives a rate to groups that have none; a schedule would only take it away again."""
        idle = [
            (o, i)
            for o in surgery.state.optimizers
            for i, g in enumerate(o.param_groups)
            if not float(g["lr"])
        ]
        if not idle:
            raise Refused("scale-lr: no group's learning rate is 0; give factor= instead of lr=")
        if surgery.state.schedulers:
            kind = type(surgery.state.schedulers[0]).__name__
            raise Refused(f"scale-lr: {kind} sets the rate to 0; change its settings in the source")
        for optimizer, index in idle:
            surgery.setting(optimizer, index, "lr", lr)


def _smaller(finding: Finding, free: float) -> float:
    """The factor for steps that are too long: the smallest of what each measured number asks for."""
    product = number_of(finding, "rate x largest curvature")
    followed = number_of(finding, "the most that the optimiser can follow")
    overshoot = number_of(finding, "length of a step over the way to the lowest point ahead")
    large = number_of(finding, "update over weights, median of the steps")
    largest = number_of(finding, "update over weights, largest")
    single = finding.cause is Cause.STEP_LARGER_THAN_WEIGHTS
    asked = [
        *([0.9 * free] if free < 1 else []),
        *([0.9 * followed / product] if product > followed > 0 else []),
        *([1 / overshoot] if overshoot > 1 else []),
        *([0.01 / large] if large > 0.1 else []),
        *([0.1 / largest] if single and largest > 1 else []),
    ]
    return max(min(asked, default=0.1), 1e-3)
