"""Silent units rolled forward by torch itself: the user's optimiser on copies of their rows.

The arithmetic in :mod:`defib.diagnosis.prognosis` differs from torch's in the last bit now and then
(a vector library's square root); over thousands of steps that can move a return by a step. Where the
live model is at hand, the step is therefore looked up in torch's own arithmetic, in a window around it.

Letters: ``N`` samples, ``D`` features, ``U`` units.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from defib.core.prognosis import Outlook, Prognosis

WINDOW = 8
"""Steps before and after the one that was computed on which it is looked whether a unit fires."""

MOST = 20_000
"""Steps that are rehearsed at most; returns after them keep the step that was computed."""


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """One layer's parameters, to be rolled forward.

    Attributes:
        parameters: "weight", and "bias" if it has one; units along axis 0.
        optimizers: For each of them its optimiser, None if nobody owns it.
        lrs: For each of them the learning rates of the next steps; None if it stays.
        features: What feeds the layer, shape (N, D).
        threshold: Pre-activation above which a unit fires.
    """

    parameters: Mapping[str, Tensor]
    optimizers: Mapping[str, torch.optim.Optimizer | None]
    lrs: Mapping[str, NDArray[np.float64] | None]
    features: NDArray[np.floating[Any]]
    threshold: float

    def confirmed(self, prognosis: Prognosis) -> Prognosis:
        """The prognosis with the steps on which torch's own arithmetic fires its units.

        Args:
            prognosis: Of units of this layer.

        Returns:
            The same where nothing is to be looked up; ``exact`` is False where a unit did not fire in the
            window.
        """
        if prognosis.outlook is not Outlook.RETURNS or not prognosis.steps:
            return prognosis
        ahead = np.array(prognosis.steps, dtype=np.int64) - prognosis.as_of
        near = np.flatnonzero((ahead > 0) & (ahead <= MOST))
        if not len(near):
            return prognosis
        units = torch.tensor([prognosis.units[i] for i in near], device=self.parameters["weight"].device)
        found = self._first(units, ahead[near])
        missed = bool((found < 0).any())
        ahead[near] = np.where(found < 0, ahead[near], found)
        steps = tuple(int(k) + prognosis.as_of for k in ahead)
        return replace(prognosis, steps=steps, step=min(steps), exact=prognosis.exact and not missed)

    def _first(self, units: Tensor, ahead: NDArray[np.int64]) -> NDArray[np.int64]:
        """First step in each unit's window on which it fires, shape (U,); -1 if on none."""
        actors = [self._actor(name, units) for name in self.parameters]
        copies = {name: actor.parameter for name, actor in zip(self.parameters, actors, strict=True)}
        samples = torch.from_numpy(self.features).to(copies["weight"])
        first = np.full(len(ahead), -1, np.int64)
        for k in range(1, int(ahead.max()) + WINDOW + 1):
            for actor in actors:
                actor.step(k - 1)
            asked = np.flatnonzero((np.abs(ahead - k) <= WINDOW) & (first < 0))
            if len(asked):
                rows = torch.from_numpy(asked).to(units.device)
                weight, bias = copies["weight"][rows].flatten(1), copies.get("bias")
                with torch.no_grad():
                    z = functional.linear(samples, weight, None if bias is None else bias[rows])
                firing = (z > self.threshold).any(0).cpu().numpy()
                first[asked[firing]] = k
            elif not (first < 0).any():
                break
        return first

    def _actor(self, name: str, units: Tensor) -> "_Actor":
        parameter, optimizer = self.parameters[name], self.optimizers[name]
        rows = torch.nn.Parameter(parameter.detach()[units].clone())
        rows.grad = torch.zeros_like(rows)
        if optimizer is None or not parameter.requires_grad:
            return _Actor(parameter=rows, optimizer=None, lrs=None)
        group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
        settings = {k: copy.deepcopy(v) for k, v in group.items() if k != "params"}
        double = type(optimizer)([{"params": [rows], **settings}])  # type: ignore[call-arg]
        double.state[rows] = {
            k: _share(v, parameter, units) for k, v in optimizer.state.get(parameter, {}).items()
        }
        return _Actor(parameter=rows, optimizer=double, lrs=self.lrs[name])


@dataclass(frozen=True, kw_only=True)
class _Actor:
    """Copies of rows with their own optimiser."""

    parameter: torch.nn.Parameter
    optimizer: torch.optim.Optimizer | None
    lrs: NDArray[np.float64] | None

    def step(self, number: int) -> None:
        """One step with a gradient of zero."""
        if self.optimizer is None:
            return
        if self.lrs is not None and len(self.lrs):
            rate = float(self.lrs[min(number, len(self.lrs) - 1)])
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        if self.parameter.grad is not None:
            self.parameter.grad.zero_()
        _silent_step(self.optimizer)


def _silent_step(optimizer: torch.optim.Optimizer) -> None:
    """A step that no watcher hears of: it is not one of the user's."""
    bare = getattr(type(optimizer).step, "__wrapped__", type(optimizer).step)
    with torch.no_grad():
        bare(optimizer)


def _share(value: Any, parameter: Tensor, units: Tensor) -> Any:
    """The units' rows of one entry of the state, or a copy of what all share."""
    if isinstance(value, Tensor):
        same = value.shape == parameter.shape
        return value.detach()[units.to(value.device)].clone() if same else value.detach().clone()
    return copy.deepcopy(value)
