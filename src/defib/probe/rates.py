"""The learning rates that a scheduler will set, without moving it or its optimiser."""

import copy
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defib.core.errors import UsageError

MOST = 20_000
"""Steps that are looked ahead; after them the rate is taken to stay."""


class Rates:
    """Future learning rates of an optimiser's groups.

    Attributes:
        moved: Other settings that the scheduler changes ("momentum"): they are not followed.
        ends: Step of the scheduler after which it gives no more rates; None if it goes on.

    Args:
        optimizer: What the scheduler drives.
        scheduler: Any of torch's but ``ReduceLROnPlateau``, whose rates depend on what is to come.
        every: Optimiser steps between two steps of the scheduler.
        steps: Optimiser steps to look ahead.

    Raises:
        UsageError: If its rates cannot be known.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, scheduler: Any, every: int = 1, steps: int = MOST
    ) -> None:
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise UsageError(
                "ReduceLROnPlateau lowers the rate by what the loss will do, which nobody knows; leave it out"
            )
        self._groups = optimizer.param_groups
        self._values: list[list[float]] = [[] for _ in self._groups]
        self.moved: tuple[str, ...] = ()
        self.ends: int | None = None
        self._look_ahead(_stand_in(optimizer, scheduler), every, min(steps, MOST))

    def of(self, parameter: Tensor) -> NDArray[np.float64] | None:
        """Rates of the next steps for one parameter, shape (K,); None if its optimiser is another."""
        for group, values in zip(self._groups, self._values, strict=True):
            if any(p is parameter for p in group["params"]):
                return np.array(values)
        return None

    def _look_ahead(self, scheduler: Any, every: int, steps: int) -> None:
        """Steps the copy, which drives an optimiser without parameters of the user's."""
        groups = scheduler.optimizer.param_groups
        start = [_settings(group) for group in groups]
        moved: set[str] = set()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no optimiser steps in between is what is meant here
            for number in range(-(-steps // every)):
                for group, values in zip(groups, self._values, strict=True):
                    values.extend([float(group["lr"])] * every)
                try:
                    scheduler.step()
                except ValueError:  # OneCycleLR is over
                    self.ends = number + 1
                    break
                for group, before in zip(groups, start, strict=True):
                    moved |= {name for name, value in _settings(group).items() if value != before.get(name)}
        self.moved = tuple(sorted(moved))


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    """What of a group a scheduler may move, apart from the rate."""
    return {name: group[name] for name in ("momentum", "betas", "weight_decay") if name in group}


def _stand_in(optimizer: torch.optim.Optimizer, scheduler: Any) -> Any:
    """A copy of the scheduler that drives a copy of the optimiser's settings and none of its tensors."""
    settings = [{k: copy.deepcopy(v) for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    double = torch.optim.SGD([torch.zeros(1)], lr=0.0)
    double.param_groups = [
        {"params": [torch.zeros(1)]} | {k: float(v) if isinstance(v, Tensor) else v for k, v in group.items()}
        for group in settings
    ]
    try:
        found = copy.deepcopy(scheduler, {id(optimizer): double})
        if found.optimizer is not double:
            raise UsageError("the scheduler drives another optimizer than the one given")
    except (TypeError, AttributeError, RuntimeError) as error:
        raise UsageError(f"the scheduler cannot be looked ahead: {error}") from None
    return found
