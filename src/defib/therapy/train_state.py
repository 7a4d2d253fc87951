"""The only mutable thing in defib: a model together with what trains it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from defib.core.errors import Refused

_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module")
"""Attributes under which DDP, ``torch.compile`` and FSDP keep the user's own module."""


@dataclass(frozen=True, kw_only=True)
class Owned:
    """One parameter as an optimiser holds it.

    Attributes:
        optimizer: The optimiser.
        group: Index of the parameter group.
    """

    optimizer: torch.optim.Optimizer
    group: int


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Copies of all that training had changed up to a step.

    Attributes:
        step: Optimiser steps taken.
        tensors: Parameters and buffers by name.
        memories: What the optimisers kept for each parameter, by the parameter's name.
    """

    step: int
    tensors: Mapping[str, torch.Tensor] = field(repr=False)
    memories: Mapping[str, Mapping[str, Any]] = field(repr=False)


class Several(nn.Module):
    """Models of one process that are trained together, under the names that the script has for them.

    It is only looked through: a treatment of the whole then reaches each of them, and paths are those of
    the record. It has no forward.
    """

    def __init__(self, roots: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, root in roots.items():
            self._modules[name] = root


@dataclass(kw_only=True)
class TrainState:
    """A model with its optimisers, and whatever else must follow when they change.

    Attributes:
        model: The model; wrappers (DDP, ``torch.compile``) may be around it.
        optimizers: Those that step its parameters.
        schedulers: Learning-rate schedulers of those optimisers.
        scaler: The gradient scaler; None without mixed precision.
        averages: Models that hold a moving average of this one (``torch.optim.swa_utils``).
        copies: Other copies of it that nothing trains (a shadow, a target network, the best so far), by
            the names under which the script has them.
        snapshot: How it was when it was last known to be healthy; None if nobody kept that.
    """

    model: nn.Module
    optimizers: tuple[torch.optim.Optimizer, ...] = ()
    schedulers: tuple[Any, ...] = ()
    scaler: Any = None
    averages: tuple[nn.Module, ...] = field(default_factory=tuple)
    copies: tuple[str, ...] = ()
    snapshot: Snapshot | None = None

    def photograph(self, step: int) -> Snapshot:
        """Copies parameters, buffers and optimiser states; as much memory as those take.

        Args:
            step: Optimiser steps taken.

        Returns:
            The copies.
        """
        tensors = {**dict(self.bare.named_parameters()), **dict(self.bare.named_buffers())}
        memories = {}
        for name, parameter in self.bare.named_parameters():
            owned = self.owner(parameter)
            held = {} if owned is None else owned.optimizer.state.get(parameter, {})
            memories[name] = {k: v.detach().clone() if torch.is_tensor(v) else v for k, v in held.items()}
        return Snapshot(
            step=step, tensors={n: t.detach().clone() for n, t in tensors.items()}, memories=memories
        )

    @property
    def bare(self) -> nn.Module:
        """The user's own module, without wrappers."""
        return unwrapped(self.model)

    def module(self, path: str) -> nn.Module:
        """The module at a path as the user knows it.

        Args:
            path: "encoder.0.fc1"; "" for the model itself.

        Returns:
            The module, itself unwrapped.

        Raises:
            Refused: If there is none.
        """
        found = self.bare
        for name in filter(None, path.split(".")):
            child = found._modules.get(name)
            if child is None:
                raise Refused(f"the model has no module {path!r} (no {name!r} in it)")
            found = unwrapped(child)
        return found

    def owner(self, parameter: torch.Tensor) -> Owned | None:
        """The optimiser that steps a parameter; None if none does."""
        for optimizer in self.optimizers:
            for index, group in enumerate(optimizer.param_groups):
                if any(p is parameter for p in group["params"]):
                    return Owned(optimizer=optimizer, group=index)
        return None

    def paths_of(self, parameter: torch.Tensor) -> tuple[str, ...]:
        """Every name under which the model has this tensor; more than one if it is tied."""
        return tuple(self._names(parameter))

    def uses_of(self, module: nn.Module) -> tuple[str, ...]:
        """Every path at which the model has this very module."""
        return tuple(n for n, m in self.bare.named_modules(remove_duplicate=False) if m is module)

    def _names(self, parameter: torch.Tensor) -> Iterator[str]:
        for path, module in self.bare.named_modules():
            for name, own in module._parameters.items():
                if own is parameter:
                    yield f"{path}.{name}" if path else name


def unwrapped(module: nn.Module) -> nn.Module:
    """The innermost module of a chain of wrappers."""
    kinds = {"DistributedDataParallel", "DataParallel", "OptimizedModule", "FullyShardedDataParallel"}
    while type(module).__name__ in kinds:
        inner = next((module._modules[n] for n in _WRAPPERS if module._modules.get(n) is not None), None)
        if inner is None:
            return module
        module = inner
    return module
