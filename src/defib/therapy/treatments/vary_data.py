"""Give the network data that differs.

What it does:
    Says where to look when all samples of a batch, or all labels, are the same.

When it helps:
    The data pipeline repeats one sample, overwrites a buffer, normalises by a range of zero, or reads one
    folder only; or batches come sorted by label.

When it does not:
    The task really has one class.

Dose:
    None: the patch is worded from the evidence.

Safety:
    Shown, never done: only the source can be changed.

References:
    None; it follows from the definition of a function.
"""

from typing import ClassVar

from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.core.run import RunView
from defib.therapy.advice import Advice
from defib.therapy.treatment import Indication

_WORDS = {
    Cause.CONSTANT_INPUTS: "every sample of a batch is the same where the data enters: print "
    "x.std(dim=0).max() "
    "right after the batch is made; look for a buffer that is filled in place and appended again and again, "
    "for x / 255 on integers, and for a normalisation by a range of 0",
    Cause.CONSTANT_LABELS: "print target.unique(return_counts=True) over the whole data set: one value "
    "only; look "
    "at where labels are read (one folder, a column of zeros, argmax over the wrong axis)",
    Cause.SORTED_DATA: "shuffle: DataLoader(dataset, batch_size=..., shuffle=True), or permute data and "
    "labels "
    "together before they are cut into batches",
    Cause.DEAD_FEATURES: "leave the features out that never change: keep = x.std(dim=0) > 0; x = x[:, keep]",
    Cause.REPEATED_TOKEN: "sort sequences of like length into one batch, or cut the padding: most tokens "
    "of the "
    "input are the same one",
    Cause.PADDING_IN_LOSS: "leave the padding out of the loss: CrossEntropyLoss(ignore_index=...) with the "
    "label that padded positions carry, or index predictions and targets with a mask",
}


class VaryData(Advice):
    """Data that differs between samples."""

    slug = "vary-data"
    title = "Give the network data that differs"
    indications: ClassVar[tuple[Indication, ...]] = (
        Indication(
            rule="label-or-data",
            causes=(Cause.CONSTANT_INPUTS, Cause.CONSTANT_LABELS, Cause.SORTED_DATA),
            strength=0.9,
            why="only what differs can be told apart",
        ),
        Indication(rule="dead-features", strength=0.5, why="features that never change can be left out"),
        Indication(rule="repeated-token", strength=0.5, why="tokens that are all alike say nothing"),
    )

    def words(self, finding: Finding, run: RunView) -> str:
        del run
        return _WORDS.get(finding.cause, "")
