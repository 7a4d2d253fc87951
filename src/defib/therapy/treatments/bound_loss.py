"""Give the loss a lowest value.

What it does:
    Says where a sign or a bound is missing.

When it helps:
    A negative loss falls ever faster: a likelihood is minimised, or a score is rewarded without a bound.

When it does not:
    The loss is a reward's estimate, whose value means nothing.

Dose:
    None: the patch is worded from the evidence.

Safety:
    Shown, never done: only the source can be changed.

References:
    None; a function without a minimum has no minimiser.
"""

from typing import ClassVar

from defib.core.finding import Finding
from defib.core.run import RunView
from defib.therapy.advice import Advice
from defib.therapy.steps import number_of
from defib.therapy.treatment import Indication


class BoundLoss(Advice):
    """A loss that has a minimum."""

    slug = "bound-loss"
    title = "Give the loss a lowest value"
    indications: ClassVar[tuple[Indication, ...]] = (
        Indication(rule="unbounded-loss", strength=0.9, why="towards a lowest value one can train"),
    )

    def words(self, finding: Finding, run: RunView) -> str:
        del run
        start, end = number_of(finding, "loss at the start"), number_of(finding, "loss at the end")
        return (
            f"the loss went from {start:.3g} to {end:.3g}: minimise the negative (loss = "
            "-distribution.log_prob(y).mean()), "
            "or bound what is rewarded (a softplus or clamp on the scale that grows)"
        )
