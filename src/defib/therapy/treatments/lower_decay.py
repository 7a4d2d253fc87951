"""Lower the weight decay.

What it does:
    ``weight_decay`` of every parameter group is multiplied by a factor, 0 to switch it off.

When it helps:
    Decay is what moves the weights: units that it pulled into silence, a network that shrinks faster
    than it learns.

When it does not:
    In bfloat16 a decay of lr x decay <= 1e-3 does nothing anyway: rounding takes it (science.md, truth 19).

Dose:
    ``factor``: new over old decay, 0 to 1. Where weights are forgotten faster than they are learned,
    what lets a weight remember the whole run (at least 1,000 steps); else 0.1.

Safety:
    Weights and moments stay. Refused where nothing decays.

References:
    Loshchilov and Hutter 2019 (arXiv 1711.05101); science.md truths 2 to 4 and 19.
"""

from collections.abc import Sequence
from random import Random
from typing import ClassVar

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.kill import Culprit
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.therapy.steps import number_of, rounded, stepping
from defib.therapy.surgery import Surgery
from defib.therapy.treatment import Case, Indication, Treatment


class LowerDecay(Treatment):
    """Multiplies every group's weight decay."""

    slug = "lower-decay"
    title = "Lower the weight decay"
    safety = Safety.SETTINGS
    indications = (
        Indication(
            rule="dead-unit",
            causes=(Cause.DIED_AT_STEP,),
            strength=0.5,
            why="weight decay, which carried the killing update, no longer pulls units into silence",
        ),
        Indication(rule="weight-decay", strength=0.95, why="a weight remembers what more steps have told it"),
        Indication(
            rule="vanishing-gradient",
            causes=(Cause.WEIGHTS, Cause.DERIVATIVE_AND_WEIGHTS),
            strength=0.2,
            why="weights that decay more slowly shrink the gradient less",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a tenth",
            build=lambda: stepping(weight_decay=0.1),
            dose={"factor": 0.1},
            holds=lambda s: abs(s.optimizers[0].param_groups[0]["weight_decay"] - 0.01) < 1e-12,
        ),
        Case(
            name="none",
            build=lambda: stepping(weight_decay=0.1),
            dose={"factor": 0},
            holds=lambda s: s.optimizers[0].param_groups[0]["weight_decay"] == 0,
        ),
        Case(name="nothing decays", build=stepping, dose={"factor": 0.1}, refused=True),
        Case(name="more", build=lambda: stepping(weight_decay=0.1), dose={"factor": 2}, refused=True),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        decays = any(g.get("weight_decay") for o in run.optimizers for g in o.groups)
        blamed = any(e.name == f"killed by {Culprit.DECAY}" for e in finding.evidence)
        remembered = number_of(finding, "steps that a weight remembers")
        if remembered > 0:
            return {"factor": rounded(min(0.1, remembered / max(1000, run.steps)))}
        return {"factor": 0.1} if decays and (blamed or finding.rule != "dead-unit") else None

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del draw, layers
        return {"factor": 0.1}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        factor = dose.get("factor")
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 <= factor < 1:
            raise Refused(f"lower-decay needs a factor from 0 to below 1, not {factor!r}")
        groups = [(o, i, g) for o in surgery.state.optimizers for i, g in enumerate(o.param_groups)]
        decaying = [(o, i, g["weight_decay"]) for o, i, g in groups if g.get("weight_decay")]
        if not decaying:
            raise Refused("lower-decay: no parameter group has a weight decay")
        for optimizer, index, decay in decaying:
            surgery.setting(optimizer, index, "weight_decay", decay * factor)
