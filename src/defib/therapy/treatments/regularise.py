"""Stop earlier, or leave less room to learn by heart.

What it does:
    Says at which step the validation loss was lowest, and what narrows the gap.

When it helps:
    The validation loss rises while the training loss goes on falling.

When it does not:
    Validation data is of another kind than training data.

Dose:
    None: the patch is worded from the evidence.

Safety:
    Shown, never done: only the source can be changed.

References:
    Prechelt 1998, Early stopping - but when?; Srivastava et al. 2014, Dropout.
"""

from typing import ClassVar

from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.core.run import RunView
from defib.therapy.advice import Advice
from defib.therapy.treatment import Indication


class Regularise(Advice):
    """A smaller gap to new data."""

    slug = "regularise"
    title = "Stop earlier, or leave less room to learn by heart"
    indications: ClassVar[tuple[Indication, ...]] = (
        Indication(
            rule="overfit",
            strength=0.8,
            why="the best point of the run is known, and more data or noise moves it on",
        ),
    )

    def words(self, finding: Finding, run: RunView) -> str:
        del run
        best = (
            f"keep the weights of step {finding.since_step}"
            if finding.since_step
            else "keep the best weights"
        )
        if finding.cause is Cause.NOT_GENERALISING:
            return (
                "the loss on validation data never fell: look whether it is made and scaled as the "
                "training data is, and "
                "whether model.eval() is called; then more data, augmentation, a smaller model"
            )
        return (
            f"{best} (save them whenever the validation loss is lowest, stop some evaluations later); then "
            "augmentation, "
            "nn.Dropout(0.1 to 0.5) before the last layers, AdamW(weight_decay=0.01 to 0.1), or a smaller "
            "model"
        )
