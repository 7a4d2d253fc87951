"""Made-up runs that differ in their labels and targets; see ``cases``."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from defib.core.run import RunView
from defib.diagnosis.case_parts import CLASSES, REGRESSION, objective_of
from defib.diagnosis.cases import Plan, falling_loss, run_of

Array = NDArray[np.float64]


def compared(loss: Array, **columns: float) -> RunView:
    """A regression."""
    run = run_of(Plan(path="fc1"), loss=loss, loss_operations=("MseLossBackward0",))
    return replace(run, objective=objective_of({**REGRESSION, **columns}, "MseLossBackward0"))


def labelled(loss: Array, /, **columns: float) -> RunView:
    """A classification."""
    return replace(run_of(Plan(path="fc1"), loss=loss), objective=objective_of({**CLASSES, **columns}))


def in_order(loss: Array) -> RunView:
    """A classification whose batches hold one class each, one class after the other."""
    run = labelled(loss, classes=1.0, constant_loss=0.0, loss=3.3)
    assert run.objective is not None
    columns = {**run.objective.columns, "label_mean": np.arange(10.0)}
    return replace(run, objective=replace(run.objective, columns=columns))


def forgetting_loss() -> Array:
    """A loss that falls on each class in turn and is back at its start with the next, fifty steps a class."""
    return np.asarray(3.3 * np.exp(-0.03 * (np.arange(200) % 50)))


def seldom_loss() -> Array:
    """A loss that falls to almost nothing, but for a jump on every thirtieth step."""
    loss = falling_loss(end=0.001)
    loss[::30] += 0.15
    return loss


def uneven_loss() -> Array:
    """A loss that falls to almost nothing, every thirtieth fifteen times the others and yet small."""
    loss = falling_loss(end=0.001) ** 2
    loss[::30] *= 15
    return np.asarray(loss)


def binary(low: float, high: float = 1.0, loss: Array | None = None) -> RunView:
    """A binary classification with labels from ``low`` to ``high``."""
    name = "BinaryCrossEntropyWithLogitsBackward0"
    run = run_of(Plan(path="fc1"), loss=falling_loss() if loss is None else loss, loss_operations=(name,))
    columns = {**REGRESSION, "target_low": low, "target_high": high}
    return replace(run, objective=objective_of(columns, name))
