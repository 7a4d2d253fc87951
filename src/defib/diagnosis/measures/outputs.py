"""What stands between the last layer with parameters and the loss."""

import numpy as np

from defib.core.activation_index import activation_named
from defib.core.run import RunView
from defib.core.site import Signal
from defib.core.wiring import Wiring

_SHAPES = (
    "View",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Transpose",
    "Permute",
    "T",
    "ToCopy",
    "Clone",
    "Select",
    "Slice",
    "Index",
    "Unbind",
    "Split",
    "Expand",
    "Alias",
    "UnsafeView",
)
"""What passes values on as they are; a column taken out of them (``[:, 0]``) is still those values."""


_ERRORS: dict[tuple[str, ...], int] = {
    ("MeanBackward0", "AbsBackward0", "SubBackward0"): 1,
    ("MeanBackward0", "PowBackward0", "SubBackward0"): 2,
}


def never_moves(run: RunView) -> bool:
    """Whether every gradient that was read is exactly zero."""
    if run.norms is None or not len(run.norms.steps):
        return False
    gradient = run.norms.gradient
    return bool(np.isfinite(gradient).any() and (np.nan_to_num(gradient) == 0).all())


def functions_of(operations: tuple[str, ...]) -> tuple[str, ...]:
    """The operations without those that only change the shape."""
    return tuple(o for o in operations if not o.startswith(_SHAPES) or o.startswith(("Tanh", "Threshold")))


def power_of(operations: tuple[str, ...]) -> int:
    """1 if the loss is a mean absolute error written out, 2 for a squared one, 0 if neither."""
    return _ERRORS.get(functions_of(operations)[:3], 0)


def last_activation(run: RunView) -> Wiring | None:
    """The activation whose result is compared with the targets unchanged; None if there is none."""
    operations = functions_of(run.loss_operations)
    place = 3 if operations[:3] in _ERRORS else 1
    if len(operations) <= place:
        return None
    return next((w for w in run.wirings if w.output and w.operation == operations[place]), None)


def range_of(wiring: Wiring) -> tuple[float, float]:
    """The values that an activation can take."""
    activation = activation_named(wiring.activation)
    if activation is None or wiring.activation in {"log_softmax", "abs", "maximum"}:
        return -np.inf, np.inf
    if wiring.activation == "softmax":
        return 0.0, 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        values = activation.forward(np.array([-1e6, -1.0, 0.0, 1.0, 1e6]), wiring.options)
    low, high = float(values.min()), float(values.max())
    return (low if low > -100 else -np.inf), (high if high < 100 else np.inf)


def always_one(run: RunView) -> bool:
    """Whether everything that entered the loss was exactly 1, or 0 as a logarithm."""
    if run.objective is None:
        return False
    low, high = (run.objective.columns[f"prediction_{end}"] for end in ("low", "high"))
    value = 0.0 if "LogSoftmaxBackward0" in run.loss_operations else 1.0
    return bool(len(low) and (low == value).all() and (high == value).all())


def range_in_words(low: float, high: float) -> str:
    """A range in words."""
    if np.isfinite(low) and np.isfinite(high):
        return f"{low:.3g} to {high:.3g}"
    return f"nothing below {low:.3g}" if np.isfinite(low) else f"nothing above {high:.3g}"


def name_of(operation: str) -> str:
    """An activation's name from its node's."""
    return operation.removesuffix("Backward0").lower()


def scores_off(run: RunView, wiring: Wiring) -> tuple[float, list[int], int]:
    """How often the scores behind a one-sided activation were exactly 0 in the second half of the run.

    Returns:
        Share of zeros, the units that were 0 for every sample, and the samples seen; 0 of them if none were.
    """
    read = [r for r in run.readings if r.site == wiring.site and r.signal is Signal.ACTIVATION]
    read = [r for r in read if r.first >= run.steps // 2] or read[-1:]
    if not read or any(r.units != read[0].units for r in read):
        return float("nan"), [], 0
    tally = read[0].tally
    for reading in read[1:]:
        tally = tally.merge(reading.tally)
    off = [int(u) for u in np.flatnonzero(tally.zero == tally.count)]
    return float(tally.zero.sum() / max(tally.count.sum(), 1.0)), off, tally.samples
