"""Let biases and normalisations go without weight decay.

What it does:
    Parameters of one axis (biases, scales and offsets of normalisations) move into a parameter group of
    their own, equal to the old one but for a ``weight_decay`` of 0.

When it helps:
    Decay pulls scales and offsets to 0, which switches normalised units off, and gains nothing: they
    cannot make the network steeper by themselves.

When it does not:
    Under SGD or Adam with coupled decay it is just this decay that brings some dead units back: with
    biases excluded 6 % of Adam's dead units returned instead of all (science.md, truth 4).

Dose:
    None.

Safety:
    Weights and moments stay. The optimiser's parameters are in another order afterwards: a checkpoint
    of the optimiser from before does not fit any more. Schedulers get one more base rate; those with
    other lists by group are refused.

References:
    He et al. 2019, Bag of tricks (arXiv 1812.01187), section 3.1: no bias decay.
"""

from collections.abc import Sequence
from random import Random
from typing import ClassVar

import torch

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.kill import Culprit
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.therapy.steps import stepping
from defib.therapy.surgery import Surgery
from defib.therapy.train_state import TrainState
from defib.therapy.treatment import Case, Indication, Treatment

_SIMPLE = (
    "StepLR", "MultiStepLR", "ExponentialLR", "ConstantLR", "LinearLR", "PolynomialLR", "CosineAnnealingLR",
)  # fmt: skip
"""Schedulers that keep nothing by group but ``base_lrs``."""


def _scheduled(kind: str = "StepLR") -> TrainState:
    """With a decay and a scheduler."""
    state = stepping(weight_decay=0.1)
    if kind == "StepLR":
        state.schedulers = (torch.optim.lr_scheduler.StepLR(state.optimizers[0], 2),)
    else:
        state.schedulers = (torch.optim.lr_scheduler.LambdaLR(state.optimizers[0], lambda _: 1.0),)
    return state


def _apart(state: TrainState) -> bool:
    """Two groups that together own everything, and as many base rates."""
    decayed, plain = state.optimizers[0].param_groups
    sizes = [len(decayed["params"]), len(plain["params"])]
    return (
        plain["weight_decay"] == 0
        and decayed["weight_decay"] == 0.1
        and sizes == [2, 4]
        and len(state.schedulers[0].base_lrs) == 2
    )


class DecayGroups(Treatment):
    """Splits parameter groups by decay."""

    slug = "decay-groups"
    title = "Let biases and normalisations go without weight decay"
    safety = Safety.SETTINGS
    indications = (
        Indication(
            rule="dead-unit",
            causes=(Cause.DIED_AT_STEP,),
            strength=0.35,
            why="weight decay no longer pulls offsets and scales to 0",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(name="with a schedule", build=_scheduled, dose={}, holds=_apart),
        Case(
            name="a schedule with functions by group",
            build=lambda: _scheduled("LambdaLR"),
            dose={},
            refused=True,
        ),
        Case(name="nothing decays", build=stepping, dose={}, refused=True),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        del run
        return {} if any(e.name == f"killed by {Culprit.DECAY}" for e in finding.evidence) else None

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del draw, layers
        return {}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        del dose
        state = surgery.state
        for scheduler in state.schedulers:
            if type(scheduler).__name__ not in _SIMPLE:
                raise Refused(
                    f"decay-groups: {type(scheduler).__name__} keeps lists by group that defib does not know"
                )
        done = False
        for optimizer in state.optimizers:
            for index, group in enumerate(list(optimizer.param_groups)):
                flat = [p for p in group["params"] if p.ndim <= 1]
                if not group.get("weight_decay") or not flat or len(flat) == len(group["params"]):
                    continue
                surgery.split_group(optimizer, index, flat, "weight_decay", 0.0)
                for scheduler in (s for s in state.schedulers if s.optimizer is optimizer):
                    rates = [*scheduler.base_lrs, scheduler.base_lrs[index]]
                    surgery.attribute(f"{type(scheduler).__name__}.base_lrs", scheduler, "base_lrs", rates)
                done = True
        if not done:
            raise Refused("decay-groups: no group decays weights together with biases or scales")
