"""Give the model an output activation that the loss can use.

What it does:
    Says which activation to take away or put in between the last layer and the loss, or which loss to
    take in its place.

When it helps:
    The answer that would be right cannot be given, or only where the activation is flat.

When it does not:
    The loss is one of your own: then its terms have to be looked at by hand.

Dose:
    None: the patch is worded from the evidence.

Safety:
    Shown, never done: only the source can be changed.

References:
    PyTorch documentation of CrossEntropyLoss, NLLLoss and BCEWithLogitsLoss: which of them take logits.
"""

from typing import ClassVar

from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.core.run import RunView
from defib.therapy.advice import Advice, output_of
from defib.therapy.steps import number_of
from defib.therapy.treatment import Indication

_WORDS = {
    Cause.SOFTMAX_OVER_ONE: "a softmax behind {output}, which is one number, is always 1: take the softmax "
    "away "
    "and use F.binary_cross_entropy_with_logits(output.squeeze(1), target.float()), or give the layer one "
    "output for each class and use F.cross_entropy",
    Cause.TARGETS_OUT_OF_RANGE: "take the activation behind {output} away, so that a plain linear layer "
    "answers; "
    "or bring the targets into its range",
    Cause.DOUBLE_ACTIVATION: "take the sigmoid or softmax behind {output} away: F.cross_entropy and "
    "F.binary_cross_entropy_with_logits apply their own to raw scores",
    Cause.ONE_SIDED_OUTPUT: "take the ReLU behind {output} away: scores of classes must be able to fall "
    "below 0",
    Cause.NOT_LOG_PROBABILITIES: "give F.nll_loss the logarithms of probabilities: F.log_softmax({output}, "
    "dim=1); "
    "or use F.cross_entropy on the raw scores",
}


class FitOutput(Advice):
    """Output activation and loss that fit."""

    slug = "fit-output"
    title = "Give the model an output activation that the loss can use"
    indications: ClassVar[tuple[Indication, ...]] = (
        Indication(
            rule="output-activation",
            strength=0.95,
            why="with an output that fits the loss the right answer can be given",
        ),
    )

    def words(self, finding: Finding, run: RunView) -> str:
        words = _WORDS.get(finding.cause)
        if words is None:
            return ""
        if finding.cause is Cause.TARGETS_OUT_OF_RANGE:
            low, high = number_of(finding, "smallest target"), number_of(finding, "largest target")
            reach = f" (targets reach from {low:.3g} to {high:.3g})" if low < high else ""
            return words.format(output=output_of(run, finding)) + reach
        return words.format(output=output_of(run, finding))
