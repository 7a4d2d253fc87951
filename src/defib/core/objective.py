"""What the loss compared, on sampled steps.

Letters: ``R`` sampled steps.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OBJECTIVE_COLUMNS = (
    "loss", "samples",
    "output_low", "output_high", "output_mean", "output_rms", "output_spread",
    "prediction_low", "prediction_high", "prediction_mean", "prediction_rms", "prediction_spread",
    "target_low", "target_high", "target_mean", "target_rms", "target_spread",
    "constant_loss", "classes", "outputs", "broadcast", "ignored",
    "input_low", "input_high", "input_mean", "input_std", "input_std_high", "input_std_low",
    "input_constant", "input_nonfinite", "input_features",
    "compared", "label_mean", "probability_total", "leftover",
    "relation", "relation_samples", "relation_second_first", "relation_last_first",
)  # fmt: skip
"""What is read of output, prediction, targets and input; see :class:`Objective`.

New ones are added at the end: a record of before has the first of them.
"""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What the loss compared, on sampled steps.

    Each column has shape (R,), NaN where it could not be read. ``output`` is
    what the last layer with parameters gives (logits), ``prediction`` what
    enters the loss function, ``target`` what it is compared with, ``input`` the
    data at the first layer. ``*_spread`` is the standard deviation over the
    batch (RMS over columns): 0 means that it does not depend on the sample.
    ``constant_loss`` is what the best constant answer costs on the same batch
    (label entropy, variance); ``classes`` and ``outputs`` count labels present
    and outputs; ``broadcast`` is 1 where prediction and target had different
    shapes that were stretched to fit; ``ignored`` is the share of labels equal
    to ignore_index. ``input_mean`` and ``input_std`` are RMS over features of
    each one's mean and standard deviation over the batch; ``input_constant``
    and ``input_nonfinite`` are shares. ``compared`` is how many targets of that batch
    the best constant was worked out from, ``label_mean`` the mean index of the labels of a
    classification, ``probability_total`` the sum over the classes of what enters a negative
    log-likelihood as logarithms (1 by definition; of the samples' sums the one furthest from it), and
    ``leftover`` is 1 where gradients of an earlier step were still there as backward began.
    ``relation`` is the bias-corrected distance correlation of that batch's inputs and targets over the
    first ``relation_samples`` of its samples: 0 on average where the one does not tell the other, 1 at
    most. ``relation_second_first`` and ``relation_last_first`` are the same of sequences whose numbers
    in memory are cut into samples as if what is now the second (the last) axis there had come first.

    Attributes:
        operation: The loss function's autograd node ("NllLossBackward0"); "" if it is not one that
            torch has as a function; of a squared or absolute error that is written out and averaged, the node
            that makes the error positive ("PowBackward0", "AbsBackward0", "MulBackward0").
        output_layer: Path of the last layer with parameters.
        input_layer: Path of the first.
        steps: Sampled steps, shape (R,).
        columns: The numbers, by the names in ``OBJECTIVE_COLUMNS``.
    """

    operation: str
    output_layer: str
    input_layer: str
    steps: NDArray[np.int64]
    columns: dict[str, NDArray[np.float64]]

    def last(self, name: str, count: int = 5) -> float:
        """Median of the last ``count`` numbers of a column that could be read; NaN if there are none."""
        values = self.columns[name]
        values = values[~np.isnan(values)][-count:]
        return float(np.median(values)) if len(values) else float("nan")
