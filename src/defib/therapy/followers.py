"""Copies of a model's weights, which a treatment of the model must not leave behind unnoticed.

A moving average (``torch.optim.swa_utils.AveragedModel``) follows: activations are exchanged in it as
well, and after new weights it starts to average anew, for the mean of a network and of another one
is neither. Other copies (a shadow made by ``deepcopy``, a target network, the best weights so far) are
somebody else's to update: they stay as they are, and the receipt names them. Where the state
dict would get other entries, no copy could follow or be loaded back: that is refused.
"""

import copy
import gc
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from defib.core.errors import Refused
from defib.therapy.surgery import Surgery
from defib.therapy.train_state import Snapshot, unwrapped


def follow(surgery: Surgery, treatment: str) -> None:
    """Makes averages follow what was done, right after it was done and as part of it.

    Args:
        surgery: The treatment, complete otherwise.
        treatment: Its slug.

    Raises:
        Refused: If a copy could not follow; all is taken back then.
    """
    state = surgery.state
    kept = [*(type(average).__name__ for average in state.averages), *state.copies]
    if surgery.renames and kept:
        raise Refused(
            f"{treatment} adds entries to the state dict, and a copy of the weights ({kept[0]}) could "
            "neither follow nor be loaded back: make the copy after the treatment"
        )
    for average in state.averages:
        inner = unwrapped(average._modules["module"] or average)
        for path, module in surgery.exchanged:
            parent, _, name = path.rpartition(".")
            surgery.exchange(f"average of {path}", inner.get_submodule(parent), name, copy.deepcopy(module))
        counted = average._buffers.get("n_averaged")
        if surgery.rewrites and counted is not None:
            surgery.write("n_averaged: the average starts anew", counted, torch.zeros(()))


def copies_of(root: nn.Module, trained: Iterable[nn.Module], held: Iterable[object]) -> Iterator[str]:
    """Names of live copies of a model that nothing trains.

    Args:
        root: The model.
        trained: Models that are trained, and averages: no copies.
        held: Live objects to look through (``gc.get_objects()``).

    Yields:
        The script's own variable, else the kind of thing.
    """
    names = _variables()
    known = {n: p for n, p in root.named_parameters() if not is_lazy(p)}
    shapes = {n: p.shape for n, p in known.items()}
    own = {p.data_ptr() for p in known.values()}
    apart = {id(m) for model in trained for m in model.modules()}
    for thing in held:
        if issubclass(type(thing), nn.Module) and "_modules" in vars(thing):
            alike = id(thing) not in apart and type(thing) is type(root)
            tensors: dict[str, Any] = dict(thing.named_parameters()) if alike else {}  # type: ignore[attr-defined]
        elif issubclass(type(thing), dict):
            # The base class's own methods: those of somebody's subclass are not ours to call.
            table: dict[Any, Any] = thing  # type: ignore[assignment]
            whole = shapes.keys() <= dict.keys(table)
            tensors = {n: dict.__getitem__(table, n) for n in shapes} if whole else {}
        else:
            continue
        if tensors and _is_copy(tensors, shapes, own):
            yield names.get(id(thing), f"a {type(thing).__name__}")


def _is_copy(tensors: dict[str, Any], shapes: dict[str, torch.Size], own: set[int]) -> bool:
    """Whether tensors have the model's names and shapes, and memory of their own."""
    found = [tensors.get(name) for name in shapes]
    if not all(
        isinstance(t, torch.Tensor) and not is_lazy(t) and t.shape == s
        for t, s in zip(found, shapes.values(), strict=True)
    ):
        return False
    return all(t.numel() and t.data_ptr() not in own for t in found if t is not None)


def _variables() -> dict[int, str]:
    """The script's own names for its objects."""
    return {id(v): k for k, v in vars(sys.modules["__main__"]).items() if not k.startswith("_")}


def live_objects() -> list[object]:
    """Modules and tables that the collector knows of, but for defib's own snapshots."""
    everything = gc.get_objects()
    ours = {id(t.tensors) for t in everything if type(t) is Snapshot}
    return [t for t in everything if issubclass(type(t), (nn.Module, dict)) and id(t) not in ours]
