"""Who reads the units of a layer: found by following the model's own code, not the order of its layers.

The model's forward is traced symbolically on a copy, so that nothing of the user's
is called with anything but stand-ins and no attribute of theirs is touched. What
cannot be followed to the end is refused.
"""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from defib.core.activation_index import activations
from defib.core.errors import Refused
from defib.nn.norms import UnitNorm
from defib.therapy.normalise import NAME, units_of
from defib.therapy.redraw import Dense, dense_layers
from defib.therapy.swap import is_activation
from defib.therapy.train_state import TrainState

_UNITWISE_MODULES = (
    nn.Identity, nn.modules.dropout._DropoutNd, nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd,
)  # fmt: skip
_UNITWISE = {
    "dropout", "dropout1d", "dropout2d", "alpha_dropout", "max_pool1d", "max_pool2d", "max_pool3d",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "contiguous", "clamp", "threshold", "boolean_dispatch",
}  # fmt: skip
"""Functions that keep units apart, by name; activations come on top (``max_pool2d`` is dispatched)."""
_SHAPE = {"size", "getattr", "dim"}
_FLAT = {"flatten", "view", "reshape"}
_POOLED = ((2, 3), (-2, -1), (2,), (-1,), 2, -1)
_ACTIVATIONS = {a.name for a in activations()} - {"softmax", "log_softmax", "maximum"}


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A layer that reads the units.

    Attributes:
        path: Its path.
        layer: The layer.
        per_unit: How many of its columns read one unit (positions of a flattened image).
    """

    path: str
    layer: Dense
    per_unit: int = 1

    def columns(self, unit: int) -> tuple[Any, ...]:
        """The place of a unit in the reader's weight, as in ``weight[place]``."""
        layer = self.layer
        if isinstance(layer, nn.Linear):
            return (slice(None), slice(unit * self.per_unit, (unit + 1) * self.per_unit))
        inside, rows = layer.in_channels // layer.groups, layer.out_channels // layer.groups
        group = unit // inside
        return (slice(group * rows, (group + 1) * rows), unit % inside)


@dataclass(kw_only=True)
class Outlet:
    """What lies between a layer and those who read it.

    Attributes:
        norms: Paths of the normalisations that treat each unit by itself, before the activation.
        activation: Name of the activation; "" for none.
        readers: Layers that read the units.
    """

    norms: list[str] = field(default_factory=list)
    activation: str = ""
    readers: dict[str, Reader] = field(default_factory=dict)


def outlet(state: TrainState, path: str, into: tuple[str, ...] = ()) -> Outlet:
    """Follows the units of a layer to the layers that read them.

    Args:
        state: The model.
        path: The layer.
        into: The readers, where a person knows them; nothing is followed then.

    Returns:
        Normalisations, activation, readers.

    Raises:
        Refused: If a way cannot be followed, leads to the model's output, or is shared with other units.
    """
    layer = dense_layers(state, path)[path]
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        raise Refused(f"{path} is a transposed convolution, whose weights defib does not tell apart by units")
    if into:
        return Outlet(readers={p: _reader(state, path, layer, p) for p in into})
    graph = _traced(state, path)
    starts = [n for n in graph.nodes if n.op == "call_module" and n.target == path]
    if len(starts) != 1:
        raise Refused(f"{path} is called {len(starts)} times in a forward pass: its units have several uses")
    found = Outlet()
    if NAME in layer._modules:
        if not isinstance(layer._modules[NAME], UnitNorm):
            raise Refused(f"{path}.{NAME} normalises all units of {path} together")
        found.norms.append(f"{path}.{NAME}")
    _follow(state, path, layer, graph, starts[0], found)
    if not found.readers:
        raise Refused(f"nothing reads {path}")
    return found


def _follow(
    state: TrainState, path: str, layer: Dense, graph: fx.Graph, start: fx.Node, found: Outlet
) -> None:
    """Walks from a layer to its readers."""
    calls = [n.target for n in graph.nodes if n.op == "call_module"]
    seen, waiting = {start}, list(start.users)
    while waiting:
        node = waiting.pop(0)
        if node in seen:
            continue
        seen.add(node)
        if node.op == "output":
            raise Refused(f"{path} gives the model's answer: no layer reads its units")
        module = state.module(str(node.target)) if node.op == "call_module" else None
        if module is not None and (module._forward_hooks or module._forward_pre_hooks):
            raise Refused(f"{node.target}, behind {path}, has forward hooks, which cannot be followed")
        if isinstance(module, Dense):
            if calls.count(node.target) > 1:
                raise Refused(f"{node.target} reads {path} and others: it is called more than once")
            found.readers[str(node.target)] = _reader(state, path, layer, str(node.target))
        elif module is not None:
            _pass_module(path, str(node.target), module, found)
            waiting += node.users
        elif _name(node) not in _SHAPE:
            _pass_function(path, node, found, images=not isinstance(layer, nn.Linear))
            waiting += node.users


def _pass_module(path: str, name: str, module: nn.Module, found: Outlet) -> None:
    """Notes what a module on the way is, or refuses it."""
    if is_activation(module):
        kind = type(module).__name__.lower()
        found.activation = next((a for a in _ACTIVATIONS if a.replace("_", "") == kind), found.activation)
        return
    if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)):
        if found.activation:
            raise Refused(
                f"{name} normalises {path} behind its activation: a unit that is off is not 0 there"
            )
        found.norms.append(name)
        return
    if not isinstance(module, (*_UNITWISE_MODULES, nn.Flatten)):
        kind = type(module).__name__
        raise Refused(f"the units of {path} meet in {name} ({kind}): name their reader with into=LAYER")


def _pass_function(path: str, node: fx.Node, found: Outlet, images: bool) -> None:
    """The same for a function or a method."""
    name = _name(node)
    if name in _ACTIVATIONS:
        found.activation = name
    elif name == "mean" and images and _dims(node) in _POOLED:
        return
    elif name in _FLAT:
        if not _keeps_batch(node):
            raise Refused(f"the units of {path} are rearranged by {name}: name their reader with into=")
    elif name not in _UNITWISE:
        raise Refused(f"the units of {path} meet others in {name}: no single layer reads them")


def _name(node: fx.Node) -> str:
    """A function's or method's name, without the mark of working in place."""
    if node.op == "call_method":
        return str(node.target).rstrip("_")
    return str(getattr(node.target, "__name__", node.target)).rstrip("_")


def _dims(node: fx.Node) -> object:
    """Over what a mean is taken."""
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    return tuple(dims) if isinstance(dims, (list, tuple)) else dims


def _keeps_batch(node: fx.Node) -> bool:
    """``flatten(1)`` or ``view(n, -1)``: one row a sample stays one row."""
    rest = node.args[1:]
    if _name(node) == "flatten":
        return rest in {(1,), (1, -1)} or bool(not rest and node.kwargs.get("start_dim") == 1)
    return bool(len(rest) == 2 and rest[1] == -1)


def _reader(state: TrainState, path: str, layer: Dense, name: str) -> Reader:
    """The layer that reads, with how many of its columns belong to one unit."""
    reader = dense_layers(state, name)[name]
    if isinstance(reader, nn.modules.conv._ConvTransposeNd):
        raise Refused(f"{name} is a transposed convolution, which defib does not tell apart by inputs")
    units = units_of(layer)
    width = reader.in_features if isinstance(reader, nn.Linear) else reader.in_channels
    flat = not isinstance(layer, nn.Linear) and isinstance(reader, nn.Linear)
    if width != units and not (flat and width % units == 0):
        raise Refused(f"{name} reads {width} numbers where {path} has {units} units")
    return Reader(path=name, layer=reader, per_unit=width // units)


class _Tracer(fx.Tracer):
    """Takes torch's and our modules whole, and goes into the user's own without calling any hook."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        own = type(m).__module__.startswith("defib.nn.")
        return own or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if not self.is_leaf_module(m, ""):
            return m.forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


def _traced(state: TrainState, path: str) -> fx.Graph:
    """The model's graph of calls."""
    model = state.bare
    try:
        with _generators_kept():
            shared: dict[int, Any] = {id(p): p for p in model.parameters()}
            return _Tracer().trace(copy.deepcopy(model, shared))
    except Exception as error:  # noqa: BLE001 - a forward may do anything with a stand-in
        said = str(error).splitlines()[0][:100] if str(error) else ""
        raise Refused(
            f"who reads {path} cannot be told ({type(error).__name__}: {said}): name it with into=LAYER"
        ) from None


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Leaves torch's, Python's and numpy's random generators as they were."""
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])
