"""Which part of a layer's own update momentum carried over, and which is weight decay.

g is the gradient, m the momentum before the step and m' after it, eta the learning rate, lambda the
weight decay. The part of the change that would also have come with g = 0:

- SGD: the step is -eta m' with m' = mu m + (1 - d)(g + lambda w): momentum -eta mu m; with Nesterov the
  step is -eta (g + lambda w + mu m'), and momentum is -eta mu^2 m.
- RMSprop with momentum: the step is -eta m' with m' = mu m + g / sqrt(v): momentum -eta mu m.
- Adam, AdamW: the step is -eta' m' / D, elementwise, with m' = beta m + (1 - beta) g and D known only
  through the step itself: momentum is the step times beta m / m'. Exact given D; D holds g, too.

Others are not known, and are said to be so (NaN). Where a step was clipped or scaled, g is what the
optimiser got.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defib.core.kill import Inquest, OwnStep
from defib.probe.products import Use

Array = NDArray[np.float64]
Parts = tuple[Tensor, Tensor]
"""Momentum's part and weight decay's, both of the parameter's shape."""


def shares(inquest: Inquest, path: str, uses: list[Use], units: Tensor, place: Tensor) -> tuple[Array, Array]:
    """What momentum and weight decay did to the pre-activation at each unit's stronghold.

    Args:
        inquest: The step; without ``steps`` nothing is known.
        path: The layer.
        uses: Its products before the step.
        units: Chosen units, shape (K,).
        place: Row of each one's stronghold over all uses, shape (K,).

    Returns:
        Both parts, shape (K,); NaN where unknown.
    """
    unknown = np.full(len(units), np.nan)
    weight = _parts(inquest, f"{path}.weight".lstrip("."))
    bias = _parts(inquest, f"{path}.bias".lstrip(".")) if uses[0].bias is not None else None
    if weight is None or (uses[0].bias is not None and bias is None):
        return unknown, unknown.copy()
    if weight[0].shape != uses[0].weight.shape:
        return unknown, unknown.copy()
    found = []
    for i in (0, 1):
        own = None if bias is None else bias[i]
        rows = [u.rows(weight[i], own, u.features, units) for u in (x.double() for x in uses)]
        found.append(torch.cat(rows).cpu().gather(0, place[None])[0].numpy().astype(np.float64))
    return found[0], found[1]


def _parts(inquest: Inquest, name: str) -> Parts | None:
    step = inquest.steps.get(name)
    if step is None or name not in inquest.before or step.settings.get("maximize"):
        return None
    rule = _RULES.get(step.kind)
    old, new = inquest.before[name].double(), inquest.after[name].double()
    return None if rule is None else rule(step, old, new - old)


def _number(settings: Mapping[str, Any], name: str, default: float = 0.0) -> float:
    return float(settings.get(name, default) or 0.0)


def _kept(momentum: Any, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if momentum is None else momentum.to(like)


def _sgd(step: OwnStep, old: Tensor, change: Tensor) -> Parts:
    del change
    lr, mu = _number(step.settings, "lr"), _number(step.settings, "momentum")
    decay = _number(step.settings, "weight_decay")
    nesterov = bool(step.settings.get("nesterov"))
    carried = -lr * (mu * mu if nesterov else mu) * _kept(step.before, old)
    fresh = 1.0 + mu if nesterov else 1.0
    if mu and step.before is not None:
        fresh *= 1.0 - _number(step.settings, "dampening")
    return carried, -lr * fresh * decay * old


def _rmsprop(step: OwnStep, old: Tensor, change: Tensor) -> Parts | None:
    del change
    if _number(step.settings, "weight_decay"):
        return None  # inside the division by sqrt(v), which is not kept
    lr, mu = _number(step.settings, "lr"), _number(step.settings, "momentum")
    return -lr * mu * _kept(step.before, old), torch.zeros_like(old)


def _adam(step: OwnStep, old: Tensor, change: Tensor) -> Parts | None:
    if step.after is None:
        return None
    beta = float(step.settings["betas"][0])
    lr, decay = _number(step.settings, "lr"), _number(step.settings, "weight_decay")
    now = step.after.to(old)
    apart = step.kind == "AdamW" or bool(step.settings.get("decoupled_weight_decay"))
    shrunk = -lr * decay * old if apart else torch.zeros_like(old)
    per_momentum = torch.where(now != 0, (change - shrunk) / torch.where(now != 0, now, 1.0), 0.0)
    coupled = torch.zeros_like(old) if apart else per_momentum * (1 - beta) * decay * old
    return per_momentum * beta * _kept(step.before, old), shrunk + coupled


_RULES: dict[str, Callable[[OwnStep, Tensor, Tensor], Parts | None]] = {
    "SGD": _sgd,
    "RMSprop": _rmsprop,
    "Adam": _adam,
    "AdamW": _adam,
}
