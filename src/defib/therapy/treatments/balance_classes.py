"""Let rare classes count.

What it does:
    Shows the weights that let each class count alike in the loss.

When it helps:
    A rare class is hardly ever answered although the others are recognised.

When it does not:
    Its samples are labelled wrongly.

Dose:
    None: the patch is worded from the evidence.

Safety:
    Shown, never done: only the source can be changed.

References:
    Cui et al. 2019, Class-balanced loss (arXiv 1901.05555).
"""

from typing import ClassVar

from defib.core.finding import Finding
from defib.core.run import RunView
from defib.therapy.advice import Advice
from defib.therapy.steps import number_of
from defib.therapy.treatment import Indication


class BalanceClasses(Advice):
    """Classes that count alike."""

    slug = "balance-classes"
    title = "Let rare classes count"
    indications: ClassVar[tuple[Indication, ...]] = (
        Indication(rule="class-imbalance", strength=0.7, why="a rare class's gradient is no longer drowned"),
    )

    def words(self, finding: Finding, run: RunView) -> str:
        del run
        ratio = number_of(finding, "most labels over fewest")
        code = "F.cross_entropy(output, target, weight=weight)"
        return (
            f"the most frequent class has {ratio:.3g} times the labels of the rarest: weight = "
            "counts.sum() / (len(counts) "
            f"* counts), then {code}; or torch.utils.data.WeightedRandomSampler"
        )
