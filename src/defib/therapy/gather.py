"""Finds everything that must follow when a network changes: optimisers, schedulers, scaler, averages."""

import gc
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from defib.core.errors import Refused
from defib.therapy.train_state import TrainState

T = TypeVar("T")


def gather(
    models: Iterable[nn.Module] = (), optimizers: Iterable[torch.optim.Optimizer] = ()
) -> tuple[TrainState, ...]:
    """One training state for each model that is trained in this process.

    Nothing has to be registered: what is not given is found among the live objects.

    Args:
        models: The models; empty for every outermost module whose parameters an optimiser owns.
        optimizers: The optimisers; empty for every live one.

    Returns:
        States in the order of the models; models that no optimiser owns anything of are left out.

    Raises:
        Refused: If nothing is trained, or models share a parameter.
    """
    stepping = tuple(optimizers) or tuple(_live(torch.optim.Optimizer))
    owned = {id(p) for o in stepping for g in o.param_groups for p in g["params"]}
    roots = tuple(models) or tuple(_outermost(owned))
    averages = {id(a) for a in _live(AveragedModel)}
    roots = tuple(r for r in roots if id(r) not in averages and not owned.isdisjoint(map(id, r.parameters())))
    if not roots:
        raise Refused("nothing is trained here: no optimiser owns a parameter of a module")
    held = [id(p) for r in roots for p in r.parameters()]
    if len(held) != len(set(held)):
        raise Refused("models of this process share parameters: treat the module that holds both")
    return tuple(_state(root, stepping) for root in roots)


def _state(root: nn.Module, stepping: tuple[torch.optim.Optimizer, ...]) -> TrainState:
    own = {id(p) for p in root.parameters()}
    mine = tuple(o for o in stepping if any(id(p) in own for g in o.param_groups for p in g["params"]))
    scalers = list(_live(torch.amp.GradScaler))
    return TrainState(
        model=root,
        optimizers=mine,
        schedulers=tuple(
            s
            for kind in (torch.optim.lr_scheduler.LRScheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
            for s in _live(kind)
            if any(getattr(s, "optimizer", None) is o for o in mine)
        ),
        scaler=scalers[0] if len(scalers) == 1 else None,
        averages=tuple(a for a in _live(AveragedModel) if _shaped_alike(a.module, root)),
    )


def _shaped_alike(a: nn.Module, b: nn.Module) -> bool:
    return [(n, p.shape) for n, p in a.named_parameters()] == [(n, p.shape) for n, p in b.named_parameters()]


def _live(kind: type[T]) -> list[T]:
    """Live objects of a class, each once, in the order in which they were made known to the collector.

    A list, made at once: a tuple that is being filled is a live object too, and must not be seen.

    Returns:
        The objects.
    """
    # type(), not isinstance(): a proxy's __class__ may run somebody's code.
    return [thing for thing in gc.get_objects() if issubclass(type(thing), kind)]


def _outermost(owned: set[int]) -> Iterator[nn.Module]:
    """Live modules that hold an owned parameter and are no part of another module."""
    modules: list[Any] = [m for m in _live(nn.Module) if "_modules" in m.__dict__]
    inner = {id(child) for module in modules for child in module._modules.values()}
    for module in modules:
        if id(module) not in inner and any(id(p) in owned for p in module.parameters()):
            yield module
