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
    ``limit``: the largest absolute entry. 1 where it is prescribed: sizes of single entries are not
    recorded.

Safety:
    As for `clip-norm`: weights and moments stay, undoing takes the hook away, LBFGS is refused.

References:
    Mikolov 2012, Statistical language models based on neural networks, section 3.2.2.
"""

from collections.abc import Sequence
from random import Random
from typing import ClassVar

from torch import nn

from defib.core.finding import Finding
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.therapy.steps import clip_before_steps, positive, stepping
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
        del finding, run
        return {"limit": 1.0}

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del layers
        return {"limit": draw.choice((0.1, 1.0, 10.0))}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        clip_before_steps(surgery, self.slug, positive(dose, "limit", self.slug), nn.utils.clip_grad_value_)
