"""What the best answer that ignores the input costs.

A model that has learned nothing from its inputs can still learn the constant
that costs least: the labels' frequencies, the targets' mean. Its loss is then
the labels' entropy or the targets' variance, and no smaller. So "has it beaten
the constant" tells learning from mere adjustment of an output bias, without a
threshold on the loss itself.

Letters: ``B`` batch, ``C`` classes.
"""

import numpy as np

from defib.core.run import Objective, RunView

TIE = 0.05
"""A loss this close to the constant's has not beaten it: that level is itself known to a few percent
only (for ten classes in batches of 50 the correction for small samples alone is 4 %)."""


def constant_loss(run: RunView) -> float:
    """Loss of the best constant over all samples; NaN where the loss is something else than its mean.

    A batch of B labels looks less varied than all of them: its entropy lies (C - 1) / 2B
    too low (Miller 1955).

    Returns:
        The loss.
    """
    objective = run.objective
    if objective is None or not len(objective.steps):
        return float("nan")
    if not run.loss_operations or run.loss_operations[0] != objective.operation or len(run.optimizers) > 1:
        return float("nan")  # other terms or factors are in the loss
    count = len(objective.steps)
    value = objective.last("constant_loss", count)
    if not objective.last("loss", count) <= _largest(objective, count):
        return float("nan")  # a sum, not a mean
    classes = objective.last("classes", count)
    samples = objective.last("samples", count)
    if not np.isfinite(samples):
        samples = max((live.batch for live in run.liveness.values()), default=np.nan)
    if np.isfinite(classes) and samples > 0:
        value += (classes - 1) / (2 * samples)
    return value


def _largest(objective: Objective, count: int) -> float:
    """A bound that the mean of a loss cannot exceed, given the range of what was compared."""
    low, high = objective.last("prediction_low", count), objective.last("prediction_high", count)
    if objective.operation.startswith("Nll"):
        return 1.01 * max(-low, 0.0)
    if objective.operation.startswith("Mse"):
        together = objective.last("prediction_rms", count) + objective.last("target_rms", count)
        return 1.01 * together**2
    if objective.operation == "BinaryCrossEntropyWithLogitsBackward0":
        return 1.01 * (max(abs(low), abs(high)) + float(np.log(2)))
    return float("inf") if np.isfinite(low) else float("nan")
