"""What the best answer that ignores the input costs.

A model that has learned nothing from its inputs can still learn the constant
that costs least: the labels' frequencies, the targets' mean. Its loss is then
the labels' entropy or the targets' variance, and no smaller. So "has it beaten
the constant" tells learning from mere adjustment of an output bias, without a
threshold on the loss itself.

Letters: ``B`` batch, ``C`` classes.
"""

from dataclasses import dataclass

import numpy as np

from defib.core.objective import Objective
from defib.core.run import RunView

FEWEST = 8
"""Fewer batches than this say nothing of how batches differ."""
_SQUARED = ("MseLossBackward0", "PowBackward0", "MulBackward0")

TIE = 0.05
"""A loss this close to the constant's has not beaten it: that level is itself known to a few percent
only (for ten classes in batches of 50 the correction for small samples alone is 4 %)."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """What the best constant costs.

    Attributes:
        value: The loss; NaN if unknown.
        error: Its standard error: each batch shows it only roughly.
    """

    value: float
    error: float


UNKNOWN = Level(value=float("nan"), error=float("nan"))


def constant_loss(run: RunView) -> float:
    """Loss of the best constant over all samples; NaN where the loss is something else than its mean.

    Returns:
        The loss.
    """
    return constant_level(run).value


def constant_level(run: RunView) -> Level:
    """Loss of the best constant over all samples, from what it costs on the batches that were read.

    Means are compared with means: losses of small batches are skewed, and their medians lie below
    what they are on average. A batch of B labels looks less varied than all of them: its entropy
    lies (C - 1) / 2B too low (Miller 1955). Batches that differ from one another more than chance
    makes them (sorted data, one scene a batch) leave that difference out; it is added.

    Returns:
        The loss with its standard error.
    """
    objective = run.objective
    if objective is None or not len(objective.steps) or len(run.optimizers) > 1:
        return UNKNOWN
    written = ("MeanBackward0", objective.operation)
    if run.loss_operations[:1] != (objective.operation,) and run.loss_operations[:2] != written:
        return UNKNOWN  # other terms or factors are in the loss
    count = len(objective.steps)
    if not objective.last("loss", count) <= _largest(objective, count):
        return UNKNOWN  # a sum, not a mean
    each = objective.columns["constant_loss"]
    each = each[np.isfinite(each)]
    if not len(each):
        return UNKNOWN
    value = float(each.mean())
    classes = objective.last("classes", count)
    samples = objective.last("samples", count)
    if not np.isfinite(samples):
        samples = max((live.batch for live in run.liveness.values()), default=np.nan)
    if np.isfinite(classes) and samples > 0:
        value = max(value + (classes - 1) / (2 * samples), _entropy(run))
    elif not objective.operation.startswith("Binary"):
        value += _between(objective, value)
    if value <= 0:
        return UNKNOWN  # one label a batch: what the others are was not seen
    error = float(each.std(ddof=1)) / len(each) ** 0.5 if len(each) > 1 else 0.1 * abs(value)
    return Level(value=value, error=error)


def _entropy(run: RunView) -> float:
    """Entropy of the labels of all batches that were counted; 0 if none were."""
    tables = [e.arrays["matrix"] for e in run.exhibits if e.kind == "confusion" and "matrix" in e.arrays]
    if not tables or any(t.shape != tables[0].shape for t in tables):
        return 0.0
    counts = np.sum([t.sum(axis=1) for t in tables], axis=0).astype(np.float64)
    if counts.sum() <= 0:
        return 0.0
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def _between(objective: Objective, within: float) -> float:
    """What the means of the targets differ from batch to batch, beyond chance; a variance.

    The mean of B independent targets of variance W varies by W / B. Twice as much in eight
    batches and more is no chance.

    Returns:
        The variance to add; 0 for another loss than a squared one, or if chance explains it.
    """
    samples = objective.last("compared", len(objective.steps))
    if objective.operation not in _SQUARED or not samples > 1:
        return 0.0
    means = objective.columns["target_mean"]
    means = means[np.isfinite(means)]
    if len(means) < FEWEST:
        return 0.0
    chance = within / samples
    spread = float(means.var(ddof=1))
    return spread - chance if spread > 2 * chance else 0.0


def _largest(objective: Objective, count: int) -> float:
    """A bound that the mean of a loss cannot exceed, given the range of what was compared."""
    low, high = objective.last("prediction_low", count), objective.last("prediction_high", count)
    if objective.operation.startswith("Nll"):
        return 1.01 * max(-low, 0.0)
    if objective.operation in _SQUARED:
        together = objective.last("prediction_rms", count) + objective.last("target_rms", count)
        return 1.01 * together**2
    if objective.operation == "BinaryCrossEntropyWithLogitsBackward0":
        return 1.01 * (max(abs(low), abs(high)) + float(np.log(2)))
    return float("inf") if np.isfinite(low) else float("nan")  # an absolute error written out is a mean
