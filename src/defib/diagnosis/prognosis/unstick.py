"""How long a saturated sigmoid or tanh unit needs to leave the flat part of its activation.

Its gradient is small, not zero. With one signal that keeps its sign (error delta at the unit's output,
input h) the pre-activation s moves by

    ds/dt = -eta |delta| (|h|^2 + 1) f'(s)      a step,

so the time from |s| to a smaller |s'| is the integral of 1 / f' divided by c = eta |delta| (|h|^2 + 1):

    sigmoid   1/f' = 2 + 2 cosh s        time = 2 (sinh s + s - sinh s' - s') / c,     about e^|s| / c
    tanh      1/f' = cosh(s)^2           time = ((sinh 2s - sinh 2s') / 4 + (s - s') / 2) / c

It is an estimate: of several signals the error changes, and for SGD with momentum eta is the effective
rate eta (1 - d) / (1 - mu). Adam and its kin divide by the gradient's size and are not described by it.

Letters: ``U`` units.
"""

import numpy as np
from numpy.typing import ArrayLike

from defib.core.activation_index import activation_named
from defib.core.errors import UsageError
from defib.core.prognosis import Mechanism, Outlook, Prognosis
from defib.diagnosis.prognosis.arithmetic import Exact

OUT = {"sigmoid": 2.0, "tanh": 1.0}
"""|s| below which a unit counts as free: f' is there above 40 % of its largest value."""


def steps_to_unstick(
    activation: str,
    preactivation: ArrayLike,
    *,
    lr: float,
    error: ArrayLike,
    input_square: ArrayLike,
    dtype: str = "float32",
) -> Exact:
    """Estimates the steps until saturated units are free.

    Args:
        activation: "sigmoid" or "tanh".
        preactivation: s of each unit, typical over its samples, shape (U,).
        lr: Learning rate; the effective one with momentum.
        error: |dL/df|, mean over the samples, shape (U,) or one number.
        input_square: |h|^2, mean over the samples, shape (U,) or one number.
        dtype: Format of the activations: beyond a point the derivative is rounded to 0.

    Returns:
        Steps, shape (U,); 0 for units that are free, infinite for those whose derivative is exactly zero in
        ``dtype``.

    Raises:
        UsageError: If the activation is another.
    """
    known = activation_named(activation)
    if activation not in OUT or known is None:
        raise UsageError(f"time to unstick is known for sigmoid and tanh, not for {activation}")
    signed = np.asarray(preactivation, dtype=np.float64)
    size, limits = np.abs(signed), known.flat("self", dtype, {})
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        speed = lr * np.abs(np.asarray(error, dtype=np.float64)) * (np.asarray(input_square) + 1.0)
        time = (_time(activation, size) - _time(activation, np.float64(OUT[activation]))) / speed
    stuck = (signed <= limits.low) | (signed >= limits.high)
    time = np.where(np.isnan(time), np.inf, np.maximum(time, 0.0))
    return np.where(stuck, np.inf, np.where(size <= OUT[activation], 0.0, time))


def prognose_saturated(
    path: str, units: tuple[int, ...], steps: Exact, *, as_of: int, samples: int, budget: int
) -> tuple[Prognosis, ...]:
    """Turns times to unstick into prognoses.

    Args:
        path: The layer.
        units: Which units.
        steps: What :func:`steps_to_unstick` says of them, same order.
        as_of: Optimiser steps taken.
        samples: Samples that the estimate rests on.
        budget: Steps that training still has.

    Returns:
        Units that come free within the budget, those that do not, and those whose gradient is exactly zero.
    """
    stuck = np.isinf(steps)
    groups = (
        (steps <= budget, Outlook.RETURNS, Mechanism.GRADIENT, "its gradient is small; it is free in about"),
        (~stuck & (steps > budget), Outlook.BEYOND, Mechanism.GRADIENT, "it creeps back, but needs about"),
        (stuck, Outlook.NEVER, Mechanism.NOTHING, "its derivative is exactly zero in its format"),
    )  # fmt: skip
    found = []
    for here, outlook, mechanism, reason in groups:
        if not here.any():
            continue
        ahead = np.ceil(steps[here])
        back = tuple(as_of + int(k) for k in ahead) if outlook is Outlook.RETURNS else ()
        found.append(
            Prognosis(
                path=path,
                units=tuple(u for u, yes in zip(units, here, strict=True) if yes),
                outlook=outlook,
                mechanism=mechanism,
                reason=reason if outlook is Outlook.NEVER else f"{reason} {ahead.min():,.0f} steps",
                as_of=as_of,
                samples=samples,
                exact=False,
                step=min(back, default=None),
                steps=back,
                horizon=budget if outlook is Outlook.BEYOND else None,
            )
        )
    return tuple(found)


def _time(activation: str, size: Exact | np.float64) -> Exact:
    """Integral of 1 / f' from 0 to ``size``."""
    if activation == "sigmoid":
        return np.asarray(2 * (np.sinh(size) + size))
    return np.asarray(np.sinh(2 * size) / 4 + size / 2)
