"""Standardise the data where it is made.

What it does:
    Shows the line that subtracts the mean and divides by the deviation, with the numbers that were read.

When it helps:
    Inputs lie far from unit scale, so that only tiny steps are stable, or none get through.

When it does not:
    The inputs are indices, or their scale carries meaning.

Dose:
    None: the patch is worded from the evidence.

Safety:
    Shown, never done: only the source can be changed.

References:
    LeCun et al. 1998, Efficient BackProp, section 4.3.
"""

from typing import ClassVar

from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.core.run import RunView
from defib.therapy.advice import Advice, typical
from defib.therapy.treatment import Indication


class ScaleData(Advice):
    """Data of mean 0 and deviation 1."""

    slug = "scale-data"
    title = "Standardise the data where it is made"
    indications: ClassVar[tuple[Indication, ...]] = (
        Indication(
            rule="unscaled-data",
            causes=(Cause.LARGE_INPUTS, Cause.SMALL_INPUTS),
            strength=0.88,
            why="data of unit scale allows steps of usual size",
        ),
    )

    def words(self, finding: Finding, run: RunView) -> str:
        mean, std = typical(run, "input_mean"), typical(run, "input_std")
        numbers = (
            f"; on the batches read the mean of a feature is about {mean:.4g} (RMS), its deviation {std:.4g}"
        )
        return (
            f"before the data enters {finding.layer or 'the first layer'}: x = (x - mean) / std, with mean "
            "and std of "
            f"each feature over the training set" + (numbers if std > 0 else "")
        )
