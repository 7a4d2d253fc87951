"""How long a saturated sigmoid or tanh unit needs to leave the flat part of its activation.

Its gradient is small, not zero. With one signal that keeps its sign (error delta at the unit's output,
input h) the pre-activation s moves by

    ds/dt = -eta |delta| (|h|^2 + 1) f'(s)      a step,

so the time from |s| to a smaller |s'| is the integral of 1 / f' divided by c = eta |delta| (|h|^2 + 1):

    sigmoid   1/f' = 2 + 2 cosh s        time = 2 (sinh s + s - sinh s' - s') / c,     about e^|s| / c
    tanh      1/f' = cosh(s)^2           time = ((sinh 2s - sinh 2s') / 4 + (s - s') / 2) / c

It is an estimate: of several signals the error changes, and for SGD with momentum eta is the effective
rate eta (1 - d) / (1 - mu).

Adam and its kin divide each gradient by its running size, so that saturation costs little until the
gradient sinks to eps. There the same one signal is followed with the optimiser's own running means, from
the state that a long saturation leaves (both means settled), several steps at once where s hardly moves.
As the unit comes free its gradient grows faster than its running size, which makes the last part quick.

Letters: ``U`` units.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from defib.core.activation_index import activation_named
from defib.core.errors import UsageError
from defib.core.prognosis import Mechanism, Outlook, Prognosis
from defib.diagnosis.prognosis.arithmetic import Exact

OUT = {"sigmoid": 2.0, "tanh": 1.0}
"""|s| below which a unit counts as free: f' is there above 40 % of its largest value."""

_MOVE = 0.05
"""Furthest that a pre-activation is moved at once where one step moves it less."""

_MOVES = 5_000
"""Moves before a unit counts as stuck for ever; 40 pre-activations of pure travel take 800."""


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
    """  # noqa: DOC502 - the check below raises it
    _check(activation)
    signed = np.asarray(preactivation, dtype=np.float64)
    size = np.abs(signed)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        speed = lr * np.abs(np.asarray(error, dtype=np.float64)) * (np.asarray(input_square) + 1.0)
        time = (_time(activation, size) - _time(activation, np.float64(OUT[activation]))) / speed
    return _bounded(activation, signed, time, dtype)


@dataclass(frozen=True, kw_only=True)
class Normaliser:
    """How an optimiser divides a gradient by its running size.

    Attributes:
        lr: Learning rate.
        mean: Decay of the running gradient: beta_1; 0 without one.
        size: Decay of its running size: beta_2, RMSprop's alpha.
        eps: What is added to the size.
        largest: The size is a running maximum (Adamax), not a root mean square.
    """

    lr: float
    mean: float
    size: float
    eps: float
    largest: bool = False

    def mean_after(self, steps: float, means: Exact, gradient: Exact) -> Exact:
        """The running gradient after so many steps of one gradient."""
        kept = self.mean**steps
        return np.asarray(means * kept + gradient * (1 - kept))

    def size_after(self, steps: float, sizes: Exact, gradient: Exact) -> Exact:
        """Its running size."""
        kept = self.size**steps
        if self.largest:
            return np.asarray(np.maximum(sizes * kept, gradient))
        return np.asarray(np.sqrt(sizes**2 * kept + gradient**2 * (1 - kept)))


def steps_to_unstick_normalised(
    activation: str,
    preactivation: ArrayLike,
    rule: Normaliser,
    *,
    error: ArrayLike,
    features: float,
    input_square: float,
    dtype: str = "float32",
) -> Exact:
    """The same for an optimiser that divides each gradient by its own size (Adam, RMSprop).

    Args:
        activation: "sigmoid" or "tanh".
        preactivation: s of each unit, typical over its samples, shape (U,).
        rule: The optimiser.
        error: |dL/df|, mean over the samples, shape (U,) or one number.
        features: How many inputs the units have; they are taken as equally large.
        input_square: |h|^2, mean over the samples.
        dtype: Format of the activations.

    Returns:
        Steps, shape (U,), as in :func:`steps_to_unstick`; infinite too where they are beyond counting.

    Raises:
        UsageError: If the activation is another.
    """  # noqa: DOC502 - the check below raises it
    _check(activation)
    signed = np.asarray(preactivation, dtype=np.float64)
    size = np.abs(signed)
    pull = np.broadcast_to(np.abs(np.asarray(error, dtype=np.float64)), size.shape)
    # Weights of equal inputs move alike: one weight stands for all, and the bias for itself.
    entry = np.array([[float(np.sqrt(input_square / max(features, 1.0)))], [1.0]])
    count = np.array([[max(features, 1.0)], [1.0]])
    gradient = pull * _derivative(activation, size) * entry
    means, sizes = gradient.copy(), gradient.copy()
    time, steps = np.where(pull > 0, 0.0, np.inf), 1.0
    for _ in range(_MOVES):
        caught = (size > OUT[activation]) & np.isfinite(time)
        if not caught.any():
            break
        gradient = pull * _derivative(activation, size) * entry
        means, sizes = rule.mean_after(steps, means, gradient), rule.size_after(steps, sizes, gradient)
        speed = (count * entry * rule.lr * means / (sizes + rule.eps)).sum(0)
        fastest = float(speed[caught].max())
        if fastest <= 0:
            break
        steps = max(1.0, np.floor(_MOVE / fastest))
        size = np.where(caught, size - steps * speed, size)
        time = np.where(caught, time + steps, time)
    time = np.where(size > OUT[activation], np.inf, time)
    return _bounded(activation, signed, time, dtype)


def _check(activation: str) -> None:
    if activation not in OUT:
        raise UsageError(f"time to unstick is known for sigmoid and tanh, not for {activation}")


def _bounded(activation: str, signed: Exact, time: "Exact | np.float64", dtype: str) -> Exact:
    """The times, 0 where a unit is free already and infinite where its derivative is rounded to 0."""
    known = activation_named(activation)
    assert known is not None  # both are in the catalogue
    limits = known.flat("self", dtype, {})
    stuck = (signed <= limits.low) | (signed >= limits.high)
    time = np.where(np.isnan(time), np.inf, np.maximum(time, 0.0))
    return np.where(stuck, np.inf, np.where(np.abs(signed) <= OUT[activation], 0.0, time))


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


def _derivative(activation: str, size: Exact) -> Exact:
    """F' at |s|, without overflow."""
    decay = np.exp(-size)
    if activation == "sigmoid":
        return np.asarray(decay / (1 + decay) ** 2)
    return np.asarray((2 * decay / (1 + decay**2)) ** 2)
