"""Take away the direction that an optimiser still carries.

What it does:
    Momentum (SGD's buffer, Adam's first moment) becomes 0; sizes (the second moment) stay. For some
    units, for one layer, or for all that is trained.

When it helps:
    Units coast: their gradient is zero and stored momentum goes on moving them, further away from
    where they would fire. After a spike the momentum goes on for nine times the killing step
    (science.md S0-4).

When it does not:
    The direction is right: then it only costs the steps until there is momentum again.

Dose:
    ``layer``: one layer; all without it. ``units``: its units; all without them.

Safety:
    Weights and answers stay as they are. Refused for optimisers whose state defib does not know, and
    where no momentum is kept.

References:
    science.md S0-4, truth 1, 3.3; Arnekvist et al. 2020, The effect of target normalization and
    momentum on dying ReLU (arXiv 2005.06195).
"""

from collections.abc import Sequence
from random import Random
from typing import ClassVar

import torch
from torch import nn

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.kill import Culprit
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.therapy.moments import halt
from defib.therapy.surgery import Surgery
from defib.therapy.train_state import TrainState
from defib.therapy.treatment import Case, Indication, Treatment
from defib.therapy.unit_cases import half_dead, plain_sgd, the_input
from defib.therapy.units import chosen, ward


def _direction(state: TrainState, name: str) -> torch.Tensor:
    """Adam's first moment of a parameter."""
    parameter = dict(state.bare.named_parameters())[name]
    held: torch.Tensor = state.optimizers[0].state[parameter]["exp_avg"]
    return held


class ResetMomentum(Treatment):
    """Sets stored directions to 0."""

    slug = "reset-momentum"
    title = "Take away the direction that the optimiser still carries"
    safety = Safety.SETTINGS
    indications = (
        Indication(
            rule="dead-unit",
            causes=(Cause.DIED_AT_STEP,),
            strength=0.4,
            why="stored momentum, which carried the killing update, no longer moves them further off",
        ),
        Indication(
            rule="lr-too-high",
            causes=(Cause.LOSS_RUNS_AWAY, Cause.STEPS_OVERSHOOT),
            strength=0.2,
            why="what earlier steps left behind no longer carries the weights on",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="two units",
            build=half_dead,
            dose={"layer": "2", "units": (1, 4)},
            holds=lambda s: (
                not _direction(s, "2.weight")[[1, 4]].any() and bool(_direction(s, "2.weight").any())
            ),
            preserves=True,
            inputs=the_input,
        ),
        Case(
            name="everything",
            build=half_dead,
            dose={},
            holds=lambda s: not any(_direction(s, n).any() for n, _ in s.bare.named_parameters()),
        ),
        Case(name="no momentum is kept", build=plain_sgd, dose={}, refused=True),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        if not any(g.get("momentum") or "betas" in g for o in run.optimizers for g in o.groups):
            return None
        blamed = any(e.name == f"killed by {Culprit.MOMENTUM}" for e in finding.evidence)
        if finding.rule == "dead-unit":
            return chosen(finding, run) if blamed else None
        return {}

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del draw, layers
        return {}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        if "units" in dose:
            found = ward(surgery, dose, self.slug, readers=False)
            moved = [halt(surgery, n, p, where) for n, p, where in found.incoming(surgery)]
        else:
            path = str(dose.get("layer", ""))
            module: nn.Module = surgery.state.module(path)
            prefix = f"{path}." if path else ""
            moved = [halt(surgery, prefix + n, p) for n, p in module.named_parameters()]
        if not any(moved):
            raise Refused("reset-momentum: the optimiser keeps no momentum of these parameters")
