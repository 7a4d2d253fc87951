"""Standardise the targets of a regression.

What it does:
    Shows the line that subtracts the targets' mean and divides by their deviation, and the one that takes
    it back.

When it helps:
    Targets are far larger or smaller than what a network gives at its start.

When it does not:
    The loss is made for such numbers (a likelihood with a learnt scale).

Dose:
    None: the patch is worded from the evidence.

Safety:
    Shown, never done: only the source can be changed.

References:
    Bishop 1995, Neural networks for pattern recognition, section 8.2.
"""

from typing import ClassVar

from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.core.run import RunView
from defib.therapy.advice import Advice, loss_function, output_of, typical
from defib.therapy.treatment import Indication


class ScaleTargets(Advice):
    """Targets of mean 0 and deviation 1."""

    slug = "scale-targets"
    title = "Standardise the targets of a regression"
    indications: ClassVar[tuple[Indication, ...]] = (
        Indication(
            rule="unscaled-data",
            causes=(Cause.LARGE_TARGETS, Cause.SMALL_TARGETS),
            strength=0.95,
            why="targets of unit scale are in reach of the first layers' outputs",
        ),
    )

    def words(self, finding: Finding, run: RunView) -> str:
        mean, spread = typical(run, "target_mean"), typical(run, "target_spread")
        if not spread > 0:
            return ""
        return (
            f"before {loss_function(run) or 'the loss'}: target = (target - {mean:.6g}) / {spread:.6g}; an "
            "answer is then "
            f"{output_of(run, finding)} * {spread:.6g} + {mean:.6g}"
        )
