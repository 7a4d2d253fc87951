"""What an optimiser multiplies each entry of a gradient with, at its present state.

S of :mod:`defib.core.sharpness`: the learning rate for SGD, and for Adam and its kind the rate over the
square root of the second moment, both corrected for bias. Only torch's own classes are read: a class
derived from one of them, or of the same name, may step in another way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from defib.core.stability import common_bound

Weight = float | torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Stepping:
    """How one optimiser would step now.

    Attributes:
        weights: The diagonal of S for each parameter; None where it is not known.
        decay: What weight decay adds to the curvature of each; 0 where it is no part of the gradient.
        bound: Largest stable rate x curvature; NaN if unknown.
        sign: -1 if it climbs.
        rates: Learning rate of each group.
        unknown: Why ``weights`` are not known; "" if they are.
    """

    weights: tuple[Weight, ...] | None
    decay: tuple[float, ...]
    bound: float
    sign: float
    rates: tuple[float, ...]
    unknown: str = ""


def stepping(optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor]) -> Stepping:
    """How an optimiser would step now.

    Args:
        optimizer: Any.
        parameters: Those of its own that are asked about.

    Returns:
        All that is known; tensors are new ones.
    """
    groups = optimizer.param_groups
    of = {id(p): group for group in groups for p in group["params"]}
    rates = tuple(float(group["lr"]) for group in groups)
    signs = {-1.0 if group.get("maximize") else 1.0 for group in groups}
    decay = tuple(0.0 if _decoupled(of[id(p)], optimizer) else _decay(of[id(p)]) for p in parameters)
    diagonal = _DIAGONALS.get(type(optimizer))
    limit = common_bound(type(optimizer).__name__, groups) if diagonal is not None else None
    unknown = ""
    if diagonal is None:
        unknown = f"{type(optimizer).__name__} steps in a way that is not known here"
    elif limit is None or len(signs) > 1:
        unknown = "its groups have different momenta"
    weights: tuple[Weight, ...] | None = None
    if diagonal is not None and not unknown:
        found = [diagonal(of[id(p)], optimizer.state.get(p, {})) for p in parameters]
        known = [w for w in found if w is not None]
        weights = tuple(known) if len(known) == len(found) else None
        unknown = "" if weights is not None else "the optimiser has no second moment yet"
    return Stepping(
        weights=weights,
        decay=decay,
        bound=float("nan") if unknown or limit is None else limit,
        sign=min(signs, default=1.0),
        rates=rates,
        unknown=unknown,
    )


def _decay(group: dict[str, Any]) -> float:
    return float(group.get("weight_decay") or 0.0)


def _decoupled(group: dict[str, Any], optimizer: torch.optim.Optimizer) -> bool:
    """Weight decay is taken off the weights and is no part of the gradient."""
    return type(optimizer) is torch.optim.AdamW or bool(group.get("decoupled_weight_decay"))


def _sgd(group: dict[str, Any], _state: dict[str, Any]) -> Weight | None:
    return float(group["lr"])


def _adam(group: dict[str, Any], state: dict[str, Any]) -> Weight | None:
    """Rate / (1 - b1^t) over sqrt(v / (1 - b2^t)) + eps, at the next step's t in the first factor."""
    square = state.get("max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq")
    steps = float(state.get("step", 0.0))
    if square is None or steps < 1:
        return None
    first, second = (float(b) for b in group["betas"])
    size = (square.detach() / (1 - second**steps)).sqrt() + group["eps"]
    return _over(float(group["lr"]) / (1 - first ** (steps + 1)), size)


def _adamax(group: dict[str, Any], state: dict[str, Any]) -> Weight | None:
    size, steps = state.get("exp_inf"), float(state.get("step", 0.0))
    if size is None or steps < 1:
        return None
    return _over(float(group["lr"]) / (1 - float(group["betas"][0]) ** (steps + 1)), size.detach())


def _rmsprop(group: dict[str, Any], state: dict[str, Any]) -> Weight | None:
    square, mean = state.get("square_avg"), state.get("grad_avg")
    if square is None or float(state.get("step", 0.0)) < 1:
        return None
    spread = square.detach() if mean is None else (square.detach() - mean.detach() ** 2).clamp(min=0)
    return _over(float(group["lr"]), spread.sqrt() + group["eps"])


def _adagrad(group: dict[str, Any], state: dict[str, Any]) -> Weight | None:
    total, steps = state.get("sum"), float(state.get("step", 0.0))
    if total is None or steps < 1:
        return None
    rate = float(group["lr"]) / (1 + steps * float(group["lr_decay"]))
    return _over(rate, total.detach().sqrt() + group["eps"])


def _over(rate: float, size: torch.Tensor) -> torch.Tensor:
    """Rate / size; an entry that never had a gradient and has no eps beside it does not move."""
    return torch.where(size > 0, rate / size, torch.zeros_like(size))


_DIAGONALS: dict[type, Callable[[dict[str, Any], dict[str, Any]], Weight | None]] = {
    torch.optim.SGD: _sgd,
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adam,
    torch.optim.Adamax: _adamax,
    torch.optim.RMSprop: _rmsprop,
    torch.optim.Adagrad: _adagrad,
}
