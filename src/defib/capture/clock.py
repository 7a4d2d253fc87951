"""One optimiser and its own count of steps, from 0."""

import sys
import weakref
from collections.abc import Sequence
from typing import Any

import torch

from defib.capture.border import Numbers, scalar
from defib.capture.naming import Names, Owner
from defib.capture.scaling import Heard, Scalar, mean_loss
from defib.capture.vitals import Target, Vitals

_UNKNOWN = float("nan")
_Tensor = torch.Tensor


class Clock:
    """What is known of one optimiser; it is held weakly, its parameters until it dies.

    Args:
        index: Order of first use, from 0.
        optimizer: The user's optimiser.
    """

    def __init__(self, index: int, optimizer: torch.optim.Optimizer) -> None:
        self.index = index
        self.kind = type(optimizer).__name__
        self.vitals = Vitals(())
        self.paths: frozenset[str] = frozenset()
        self.names: dict[int, str] = {}
        self.planned: tuple[int, ...] | None = None
        self.samples = 0
        self.batches = 0
        self._optimizer = weakref.ref(optimizer, lambda _: self.vitals.release())
        self._scaler: weakref.ref[Any] | None = None
        self._loss: Scalar = float("nan")
        self.unheard = 0  # first steps of which no loss is known; a NaN in the record is a loss that was NaN

    @property
    def alive(self) -> bool:
        """The optimiser still exists."""
        return self._optimizer() is not None

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """The user's optimiser; None once it is gone."""
        return self._optimizer()

    @property
    def has_scaler(self) -> bool:
        """A GradScaler drives this optimiser."""
        return self._scaler is not None

    def is_for(self, optimizer: torch.optim.Optimizer) -> bool:
        """Identity, safe against reused ids."""
        return self._optimizer() is optimizer

    def parameters(self) -> list[torch.Tensor]:
        """What the optimiser owns now."""
        optimizer = self._optimizer()
        groups = optimizer.param_groups if optimizer is not None else []
        return [p for group in groups for p in group["params"]]

    def facts(self) -> dict[str, Any]:
        """Settings of every group, without tensors, and the names of the parameters."""
        optimizer = self._optimizer()
        if optimizer is None:  # what was last said of its groups stands
            return {"kind": self.kind, "steps": self.vitals.step}
        return {
            "kind": self.kind,
            "steps": self.vitals.step,
            "groups": [_settings(group) for group in optimizer.param_groups],
            "parameters": [self.names.get(id(p), "") for p in self.parameters()],
        }

    def shape(self, feeding: frozenset[str]) -> tuple[int, ...]:
        """What a plan depends on: parameters added or exchanged, or a layer unfrozen, call for a new one."""
        own = self.parameters()
        return len(feeding), hash(tuple(map(id, own))), sum(p.requires_grad for p in own)

    def plan(self, names: Names, feeding: frozenset[str]) -> None:
        """Choose what to read on every step.

        Args:
            names: Names of parameters.
            feeding: Layers of which weight rows are read where there is no bias.
        """
        own = self.parameters()
        self.names = {}
        by_layer: dict[str, dict[str, torch.Tensor]] = {}
        owners: dict[str, Owner] = {}
        for position, parameter in enumerate(own):
            owner = names.owner(parameter)
            self.names[id(parameter)] = owner.name if owner else f"parameter[{position}]"
            if owner is not None and not parameter.is_meta:
                by_layer.setdefault(owner.path, {})[owner.field] = parameter
                owners[owner.path] = owner
        self.paths = frozenset(by_layer)
        targets = (_target(owners[path], fields, path in feeding) for path, fields in by_layer.items())
        self.vitals.aim(tuple(t for t in targets if t is not None))
        self.planned = self.shape(feeding)

    def tick(self, optimizer: torch.optim.Optimizer, heard: Sequence[Heard]) -> None:
        """One step: liveness, loss (of the backwards since the last step), learning rate, loss scale."""
        scale: Scalar = 1.0
        skips: Scalar = 0.0
        if self._scaler is not None:
            scale = self.scale()
            if heard:
                self._loss, skips = mean_loss(heard, scale)
        elif heard:
            self._loss = heard[0][0] if len(heard) == 1 else sum(h[0] for h in heard) / len(heard)
        if not heard and self.unheard == self.vitals.step:
            self.unheard += 1
        lr = optimizer.param_groups[0].get("lr", _UNKNOWN)
        self.vitals.tick(self._loss, scalar(lr) if isinstance(lr, _Tensor) else lr, scale, skips)

    def scale(self) -> Scalar:
        """The loss scale in force, 1.0 without a scaler; on an accelerator a tensor that nobody waits for."""
        scaler = self._scaler() if self._scaler is not None else None
        value = getattr(scaler, "_scale", None)
        return scalar(value) if isinstance(value, torch.Tensor) else 1.0

    def scales(self, at_backward: Scalar | None) -> Numbers:
        """Loss scale at a backward (if unknown: at the step) and at the step, on their way to the host."""
        scale = self.scale()
        known = self.has_scaler and at_backward is not None
        return Numbers([at_backward if known and at_backward is not None else scale, scale])

    def scale_on_gradients(self) -> Scalar:
        """Loss scale still on ``.grad`` when this optimiser steps: a fused one divides by itself."""
        scale = getattr(self._optimizer(), "grad_scale", None)
        return scale.detach() if isinstance(scale, torch.Tensor) else 1.0

    def look_for_scaler(self) -> None:
        """Find the GradScaler among the callers of this step, if one drives it."""
        frame: Any = sys._getframe(1)
        for _ in range(16):
            if frame is None:
                return
            if frame.f_code.co_filename.endswith("grad_scaler.py") and "self" in frame.f_locals:
                self._scaler = weakref.ref(frame.f_locals["self"])
                return
            frame = frame.f_back


def _target(owner: Owner, fields: dict[str, torch.Tensor], feeds_activation: bool) -> Target | None:
    path = owner.path
    bias, weight = fields.get("bias"), fields.get("weight")
    if bias is not None and bias.ndim == 1 and bias.requires_grad:
        units, source = bias.numel(), f"{path}.bias".lstrip(".")
        return Target(path=path, source=source, parameter=bias, rows=False, units=units)
    if feeds_activation and weight is not None and weight.ndim >= 1 and weight.requires_grad:
        source = f"rows of {path}.weight"
        units = owner.units if owner.transposed else int(weight.shape[0])
        return Target(
            path=path, source=source, parameter=weight, rows=True, units=units, transposed=owner.transposed
        )
    return None


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    """A parameter group's plain settings; a tensor setting on the CPU as its number."""
    plain: dict[str, Any] = {"parameters": len(group["params"])}
    for name, value in group.items():
        if isinstance(value, torch.Tensor) and value.numel() == 1 and value.device.type == "cpu":
            plain[name] = float(value.detach())
        elif isinstance(value, bool | int | float | str) or value is None:
            plain[name] = value
        elif isinstance(value, tuple) and all(isinstance(v, int | float) for v in value):
            plain[name] = list(value)
    return plain
