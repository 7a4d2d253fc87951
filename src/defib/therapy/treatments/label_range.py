"""Bring the labels into the loss's range.

What it does:
    Says how to map labels into the range that the loss is made for.

When it helps:
    Binary cross-entropy is given -1 and 1, or 0 to 255: it has no lowest value then.

When it does not:
    The labels are scores, not classes: then a regression's loss is meant.

Dose:
    None: the patch is worded from the evidence.

Safety:
    Shown, never done: only the source can be changed.

References:
    PyTorch documentation of BCEWithLogitsLoss: targets are numbers between 0 and 1.
"""

from typing import ClassVar

from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.core.run import RunView
from defib.therapy.advice import Advice, loss_function, output_of
from defib.therapy.steps import number_of
from defib.therapy.treatment import Indication


class LabelRange(Advice):
    """Labels that the loss has a minimum for."""

    slug = "label-range"
    title = "Bring the labels into the loss's range"
    indications: ClassVar[tuple[Indication, ...]] = (
        Indication(
            rule="label-or-data",
            causes=(Cause.LABELS_OUTSIDE,),
            strength=0.95,
            why="targets between 0 and 1 give the loss a lowest value",
        ),
    )

    def words(self, finding: Finding, run: RunView) -> str:
        low, high = number_of(finding, "smallest target"), number_of(finding, "largest target")
        if not low < high:
            return "map the targets of the binary cross-entropy to 0 and 1: target = (target > 0).float()"
        return (
            f"targets of {output_of(run, finding)} run from {low:.3g} to {high:.3g}; before "
            f"{loss_function(run) or 'the loss'}: target = (target - {low:.6g}) / {high - low:.6g}"
        )
