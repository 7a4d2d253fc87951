"""Clip the gradient by its norm before each step.

What it does:
    Where the norm of all gradients of an optimiser's parameters together is above the limit, they are
    all scaled down to it; the direction stays. It acts in the optimiser's own step, from now on.

When it helps:
    Single steps are far larger than usual: a spike, an outlier, a cliff. In a lab one mislabelled
    sample of weight 40 killed 29 units; under a limit of 1 it killed none (science.md 3.5).

When it does not:
    Every gradient is large: then it only lowers the learning rate. A gradient that is NaN stays NaN.

Dose:
    ``max_norm``: the limit. Prescribed as the usual norm of the whole gradient before the trouble,
    from the record; 1 where none was read, or where that norm is larger than the weights', for then
    the trouble was there from the start.

Safety:
    Weights and moments stay. Undoing takes the hook away. Refused for LBFGS, and for fused optimisers
    under a GradScaler, whose gradients are still scaled. Under Adam, whose steps do not depend on the
    gradient's scale, it only acts on what stands out.

References:
    Pascanu, Mikolov and Bengio 2013 (arXiv 1211.5063).
"""

import math
from collections.abc import Sequence
from random import Random
from typing import ClassVar

from torch import nn

from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.therapy.steps import (
    before_updates,
    clip_before_steps,
    number_of,
    positive,
    rounded,
    stepping,
    usual_gradient,
    weights_size,
)
from defib.therapy.surgery import Surgery
from defib.therapy.treatment import Case, Indication, Treatment


class ClipNorm(Treatment):
    """Limits the gradient's norm."""

    slug = "clip-norm"
    title = "Clip the gradient by its norm before each step"
    safety = Safety.SETTINGS
    indications = (
        Indication(
            rule="exploding-gradient", strength=0.6, why="no step is larger than a usual one any more"
        ),
        Indication(
            rule="dead-unit",
            causes=(Cause.DIED_AT_STEP,),
            strength=0.58,
            why="an update that is much larger than usual can no longer kill",
        ),
        Indication(
            rule="lr-too-high",
            causes=(Cause.LOSS_RUNS_AWAY, Cause.STEP_LARGER_THAN_WEIGHTS),
            strength=0.5,
            why="a gradient that grows no longer makes the step grow",
        ),
        Indication(
            rule="non-finite",
            causes=(Cause.NON_FINITE_UPDATE, Cause.NON_FINITE_FORWARD, Cause.NON_FINITE_LOSS),
            strength=0.35,
            why="steps of bounded size are the last thing to overflow",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a hook before each step",
            build=stepping,
            dose={"max_norm": 0.01},
            holds=lambda s: len(s.optimizers[0]._optimizer_step_pre_hooks) == 1,
        ),
        Case(name="a limit of 0 would stop it", build=stepping, dose={"max_norm": 0}, refused=True),
        Case(name="without a limit", build=stepping, dose={}, refused=True),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        if before_updates(finding):
            return None
        level = number_of(finding, "norm in the first quarter of the run")
        level = usual_gradient(run, finding.since_step) if math.isnan(level) else level
        level = usual_gradient(run) if math.isnan(level) else level
        return {"max_norm": rounded(level) if 0 < level <= weights_size(run) else 1.0}

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del layers
        return {"max_norm": draw.choice((0.1, 1.0, 10.0))}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        limit = positive(dose, "max_norm", self.slug)
        clip_before_steps(surgery, self.slug, limit, nn.utils.clip_grad_norm_)
