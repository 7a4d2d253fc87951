"""Labels and targets as the loss was given them: how many there are, and how many samples a batch has."""

import numpy as np

from defib.core.objective import Objective
from defib.core.run import RunView
from defib.core.series import Series

_SPIKE = 5.0
"""A loss this many times the median stands out."""
_KNOWN = 0.25
"""Part of a rare label's full cost: it costs no more only where it is given the fourth root of its frequency
(of 0.001: 0.18), and is well on its way to be known."""


def samples_of(run: RunView, objective: Objective) -> float:
    """Samples a batch; 0 if unknown."""
    read = objective.last("samples")
    return read if np.isfinite(read) else max((live.batch for live in run.liveness.values()), default=0.0)


def always_one_label(objective: Objective) -> bool:
    """Whether every label of every batch read is the same one, be it a class or a yes or no."""
    if objective.operation.startswith("Binary"):
        ends = np.concatenate([objective.columns["target_low"], objective.columns["target_high"]])
        return bool(len(ends) and np.isfinite(ends).all() and np.ptp(ends) == 0)
    means = objective.columns["label_mean"]
    one = len(np.unique(means[np.isfinite(means)].round(6))) <= 1
    return one and bool((objective.columns["classes"] == 1).all()) and objective.last("outputs") > 1


def dearest_late(run: RunView) -> float:
    """What the dearest tenth of the batches costs, of the second half of the run; NaN if it is unknown."""
    values = run.loss.values[len(run.loss) // 2 :]
    values = values[np.isfinite(values)]
    return float(np.percentile(values, 90)) if len(values) else float("nan")


def without_spikes(loss: Series, samples: float) -> bool:
    """Whether no loss of a run's last quarter stands out: a label other than the usual one would.

    A model that gives a rare label its own frequency p loses about p on a batch of B without one, and
    log(1 / p) / B more on a batch that holds one. Where p is the median loss L, a loss stands out that is
    several times L and lies above it by more than a part of log(1 / L) / B. Dropout and sharp answers let
    losses of one label differ by tens of times, too, but by far less than that.

    Args:
        loss: All losses.
        samples: Samples a batch, B.

    Returns:
        False if there are no losses.
    """
    late = loss.values[-max(len(loss) // 4, 1) :]
    late = late[np.isfinite(late)]
    if not len(late):
        return False
    usual, most = float(np.median(late)), float(late.max())
    cost = float(np.log(1 / usual)) / samples if 0 < usual < 1 and samples > 0 else 0.0
    return most <= _SPIKE * usual or most - usual <= _KNOWN * cost
