"""Finds everything that must follow when a network changes: optimisers, schedulers, scaler, averages."""

import gc
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from defib.core.errors import Refused
from defib.therapy.followers import copies_of, live_objects
from defib.therapy.train_state import Several, Snapshot, TrainState, unwrapped

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
    known = [id(p) for r in roots for p in r.parameters()]
    if len(known) != len(set(known)):
        raise Refused("models of this process share parameters: treat the module that holds both")
    held, everyones = live_objects(), tuple(_live(torch.optim.Optimizer))
    theirs = {id(p) for o in everyones for g in o.param_groups for p in g["params"]}
    held = [t for t in held if not isinstance(t, nn.Module) or not _has_any(t, theirs)]
    return tuple(_state(root, stepping, roots, held) for root in roots)


def joined(states: tuple[TrainState, ...]) -> TrainState:
    """Several models of one process as one, under the names that their record has for them.

    Args:
        states: One or more.

    Returns:
        The state; each model under the script's own variable, else under its class where no other
        model has that name.
    """
    if len(states) == 1:
        return states[0]
    variables = {id(v): k for k, v in vars(sys.modules["__main__"]).items() if not k.startswith("_")}
    names = [variables.get(id(s.model), type(s.bare).__name__) for s in states]
    # Of two that would be called alike nobody could say which is meant: they get names that no path has.
    told = [name if names.count(name) == 1 else f"{name} {i}" for i, name in enumerate(names)]
    return TrainState(
        model=Several(dict(zip(told, (s.model for s in states), strict=True))),
        optimizers=_each(o for s in states for o in s.optimizers),
        schedulers=_each(c for s in states for c in s.schedulers),
        scaler=states[0].scaler,
        averages=_each(a for s in states for a in s.averages),
        copies=_each(c for s in states for c in s.copies),
        snapshot=_snapshot(told, states),
    )


def _snapshot(names: list[str], states: tuple[TrainState, ...]) -> Snapshot | None:
    """The models' snapshots as one; None unless each has one."""
    kept = {n: s.snapshot for n, s in zip(names, states, strict=True) if s.snapshot is not None}
    if len(kept) < len(states):
        return None
    return Snapshot(
        step=max(s.step for s in kept.values()),
        tensors={f"{n}.{k}": t for n, s in kept.items() for k, t in s.tensors.items()},
        memories={f"{n}.{k}": m for n, s in kept.items() for k, m in s.memories.items()},
    )


def _each(things: Iterable[T]) -> tuple[T, ...]:
    """Every thing once, in order."""
    return tuple({id(thing): thing for thing in things}.values())


def _state(
    root: nn.Module,
    stepping: tuple[torch.optim.Optimizer, ...],
    roots: tuple[nn.Module, ...],
    held: list[object],
) -> TrainState:
    own, bare = {id(p) for p in root.parameters()}, unwrapped(root)
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
        averages=tuple(a for a in _live(AveragedModel) if _shaped_alike(unwrapped(a.module), bare)),
        copies=tuple(copies_of(bare, (*roots, *_live(AveragedModel)), held)),
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


def _has_any(module: nn.Module, owned: set[int]) -> bool:
    """Whether somebody trains a parameter of it; a module that is not built yet has none."""
    return "_modules" in vars(module) and any(id(p) in owned for p in module.parameters())


def _outermost(owned: set[int]) -> Iterator[nn.Module]:
    """Live modules that hold an owned parameter and are no part of another module."""
    modules: list[Any] = [
        m for m in _live(nn.Module) if "_modules" in m.__dict__ and not isinstance(m, Several)
    ]
    inner = {id(child) for module in modules for child in module._modules.values()}
    for module in modules:
        if id(module) not in inner and any(id(p) in owned for p in module.parameters()):
            yield module
