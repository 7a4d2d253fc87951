"""Clip every entry of the gradient before each step.

What it does:
    Entries above the limit become the limit, those below its negative become that. It acts in the
    optimiser's own step, from now on.

When it helps:
    Single entries are far larger than the rest (a rare token's row, one output), and scaling the whole
    gradient down would stop all others.

When it does not:
    The whole gradient is large: clipping by value turns its direction (`clip-norm` keeps it).

Dose:
    ``limit``: the largest absolute entry. Single entries are not recorded, the norm of each tensor's
    gradient is, and no entry exceeds that: prescribed is the usual norm of the largest tensor before
    the trouble, which no usual entry reaches; 1 where none was read.

Safety:
    As for `clip-norm`: weights and moments stay, undoing takes the hook away, LBFGS is refused.

References:
    Mikolov 2012, Statistical language models based on neural networks, section 3.2.2.
"""

import math
from collections.abc import Sequence
from random import Random
from typing import ClassVar

from torch import nn

from defib.core.finding import Finding
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.therapy.steps import clip_before_steps, positive, rounded, stepping, usual_entry, weights_size
from defib.therapy.surgery import Surgery
from defib.therapy.treatment import Case, Indication, Treatment


class ClipValue(Treatment):
    """Limits the gradient's entries."""

    slug = "clip-value"
    title = "Clip every entry of the gradient before each step"
    safety = Safety.SETTINGS
    indications = (
        Indication(rule="exploding-gradient", strength=0.4, why="no entry is larger than the limit any more"),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a hook before each step",
            build=stepping,
            dose={"limit": 0.01},
            holds=lambda s: len(s.optimizers[0]._optimizer_step_pre_hooks) == 1,
        ),
        Case(name="a negative limit", build=stepping, dose={"limit": -1}, refused=True),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        level = usual_entry(run, finding.since_step)
        level = usual_entry(run) if math.isnan(level) else level
        return {"limit": rounded(level) if 0 < level <= weights_size(run) else 1.0}

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del layers
        return {"limit": draw.choice((0.1, 1.0, 10.0))}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        clip_before_steps(surgery, self.slug, positive(dose, "limit", self.slug), nn.utils.clip_grad_value_)
