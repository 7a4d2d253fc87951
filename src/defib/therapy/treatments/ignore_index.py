"""Let labels count that the loss ignores.

What it does:
    Says where the index that the loss ignores comes from, and how to see it.

When it helps:
    Next to all labels carry ignore_index: padding was masked the wrong way round, or -100 stands where
    labels should.

When it does not:
    Most of a sequence really is padding: then shorter batches help.

Dose:
    None: the patch is worded from the evidence.

Safety:
    Shown, never done: only the source can be changed.

References:
    PyTorch documentation of CrossEntropyLoss, ignore_index.
"""

from typing import ClassVar

from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.core.run import RunView
from defib.therapy.advice import Advice, loss_function, output_of
from defib.therapy.steps import number_of
from defib.therapy.treatment import Indication


class IgnoreIndex(Advice):
    """Labels that count."""

    slug = "ignore-index"
    title = "Let labels count that the loss ignores"
    indications: ClassVar[tuple[Indication, ...]] = (
        Indication(
            rule="label-or-data",
            causes=(Cause.LABELS_IGNORED,),
            strength=0.95,
            why="labels that count give a gradient",
        ),
    )

    def words(self, finding: Finding, run: RunView) -> str:
        share = number_of(finding, "share of ignored labels")
        code = loss_function(run) or "F.cross_entropy"
        return (
            f"{share:.1%} of the labels equal ignore_index of {code} at {output_of(run, finding)}: print "
            "(target == -100).float().mean() right after the batch is made, and look at the mask that "
            "writes it "
            "(labels[mask] = -100 masks what must NOT count); or pass the ignore_index that your padding has"
        )
