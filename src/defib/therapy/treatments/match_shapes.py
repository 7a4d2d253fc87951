"""Give predictions and targets the same shape.

What it does:
    Says where to take away or add an axis so that each prediction is compared with its own target.

When it helps:
    Predictions of shape (N, 1) and targets of shape (N,) are stretched to (N, N).

When it does not:
    The stretching is meant: one target for a whole batch.

Dose:
    None: the patch is worded from the evidence.

Safety:
    Shown, never done: only the source can be changed.

References:
    PyTorch's own warning: Using a target size that is different to the input size.
"""

from typing import ClassVar

from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.core.run import RunView
from defib.therapy.advice import Advice, loss_function, output_of
from defib.therapy.treatment import Indication


class MatchShapes(Advice):
    """One prediction beside one target."""

    slug = "match-shapes"
    title = "Give predictions and targets the same shape"
    indications: ClassVar[tuple[Indication, ...]] = (
        Indication(
            rule="label-or-data",
            causes=(Cause.SHAPES_BROADCAST,),
            strength=0.95,
            why="each prediction is compared with its own target",
        ),
    )

    def words(self, finding: Finding, run: RunView) -> str:
        code = loss_function(run) or "the loss"
        return (
            f"before {code}: output = output.squeeze(1) where {output_of(run, finding)} is of shape (N, 1) "
            "and the "
            "targets are (N,), or target = target.unsqueeze(1); then assert output.shape == target.shape"
        )
