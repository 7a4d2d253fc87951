"""How much curvature an optimiser's own recurrence can follow.

Near a minimum, along a direction of curvature c (an eigenvalue of P^-1 H, where P is the
optimiser's preconditioner, the identity for SGD), every first-order optimiser of torch is a linear
recurrence in which the rate and the curvature enter only as their product a = rate x c. It is stable up
to a bound that depends on nothing but the momentum; beyond it the error along that direction grows from
step to step:

    SGD                    x' = (1 - a) x                        a < 2
    heavy ball             v' = m v + (1 - d) a x, x' = x - v'   a < 2 (1 + m) / (1 - d)
    Nesterov               x' = x - a x - m v'                   a < 2 (1 + m) / (1 + 2 m)
    Adam and its kind      v' = b v + (1 - b) a x, x' = x - v'   a < 2 (1 + b) / (1 - b)

The second-order polynomial z^2 - s z + p of the two-step recurrence has both roots inside the unit
circle if and only if |p| < 1 and |s| < 1 + p; the bound is where z = -1 becomes a root. For Adam, P and the
corrections for bias are held fixed (Cohen et al. 2022, arXiv 2207.14484), which they nearly are from
one step to the next once some 1 / (1 - beta2) steps are over.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_AVERAGED = frozenset({"Adam", "AdamW", "Adamax"})
"""Optimisers that step along a moving average of the gradient, which has a weight of 1 in all."""

PRECONDITIONED = _AVERAGED | {"RMSprop", "Adagrad"}
"""Optimisers that divide every entry of the gradient by a size of its own."""


def bound(kind: str, settings: Mapping[str, Any]) -> float | None:
    """Largest stable rate x curvature.

    Args:
        kind: The optimiser's class name.
        settings: Its settings for a group, by torch's names.

    Returns:
        The bound; None for an optimiser whose recurrence is not known here.
    """
    if kind in _AVERAGED:
        first = float(settings["betas"][0])
        return 2 * (1 + first) / (1 - first) if first < 1 else None
    momentum = float(settings.get("momentum") or 0.0)
    if kind == "SGD" and settings.get("nesterov"):
        return 2 * (1 + momentum) / (1 + 2 * momentum)
    if kind in {"SGD", "RMSprop"}:
        damped = float(settings.get("dampening") or 0.0) if momentum else 0.0
        return 2 * (1 + momentum) / (1 - damped) if damped < 1 else None
    return 2.0 if kind == "Adagrad" else None


def common_bound(kind: str, groups: Sequence[Mapping[str, Any]]) -> float | None:
    """The bound of all groups of an optimiser; None if it is unknown, or groups differ in it."""
    bounds = {bound(kind, group) for group in groups}
    return bounds.pop() if len(bounds) == 1 else None
