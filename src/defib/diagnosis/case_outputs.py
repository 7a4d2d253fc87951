"""Made-up runs that differ in what stands between the last layer and the loss; see ``cases``."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from defib.core.activation_index import activation_named
from defib.core.run import RunView
from defib.diagnosis.case_parts import CLASSES, REGRESSION, objective_of, shaped
from defib.diagnosis.cases import Plan, falling_loss, run_of

FAR = {"target_low": 3.0, "target_high": 103.0, "target_mean": 36.0, "target_spread": 30.0}
ONES = {"prediction_low": 1.0, "prediction_high": 1.0, "prediction_spread": 0.0}
HALF = {"target_mean": 0.5, "target_spread": 0.5}
REACHED = {"target_low": 0.0, "target_high": 1.0, **HALF}


def regression_through(
    activation: str,
    loss: np.ndarray[tuple[int], np.dtype[np.float64]],
    columns: Mapping[str, float] = MappingProxyType({}),
    units: int = 8,
) -> RunView:
    """A regression through that activation."""
    known = activation_named(activation)
    operation = known.operations[0] if known is not None else ""
    run = run_of(
        Plan(path="fc1"),
        Plan(path="head", activation=activation, units=units),
        output="other",
        loss=loss,
        loss_operations=("MseLossBackward0", operation),
    )
    return shaped(replace(run, objective=objective_of({**REGRESSION, **columns}, "MseLossBackward0")))


def taken_out(
    activation: str, loss: np.ndarray[tuple[int], np.dtype[np.float64]], columns: Mapping[str, float]
) -> RunView:
    """The same, and the only column of the outputs is taken before they are compared."""
    run = regression_through(activation, loss, columns)
    first, *rest = run.loss_operations
    return replace(run, loss_operations=(first, "SelectBackward0", *rest))


def absolute_error(error: float) -> RunView:
    """A regression by absolute error through a sigmoid; torch has no function for that loss."""
    run = run_of(
        Plan(path="fc1"),
        Plan(path="head", activation="sigmoid"),
        output="other",
        loss=falling_loss(start=2 * error, end=error),
        loss_operations=("MeanBackward0", "AbsBackward0", "SubBackward0", "SigmoidBackward0"),
    )
    return shaped(replace(run, objective=objective_of({}, "")))


def classifier(
    *operations: str, loss: np.ndarray[tuple[int], np.dtype[np.float64]] | None = None, **columns: float
) -> RunView:
    """A classification with those operations below the loss."""
    run = run_of(Plan(path="fc1"), loss=loss, loss_operations=("NllLossBackward0", *operations))
    return replace(run, objective=objective_of({**CLASSES, **columns}))


def relu_scores(loss: np.ndarray[tuple[int], np.dtype[np.float64]], off: tuple[int, ...] = ()) -> RunView:
    """A classification whose scores go through a ReLU; those of some classes are off for good."""
    run = run_of(
        Plan(path="fc1"),
        Plan(path="head", rates=dict.fromkeys(off, 0.0)),
        output="other",
        loss=loss,
        loss_operations=("NllLossBackward0", "LogBackward0", "DivBackward0", "ReluBackward0"),
    )
    return shaped(replace(run, objective=objective_of(CLASSES)))
