"""What one pass shows of the network's own structure: off and saturated layers, cuts, the output layer.

Letters: ``n`` samples, ``U`` units of a layer, ``delta`` gradient at a layer's output.
"""

import math
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from defib.core.activation import Activation
from defib.probe.batch import Piece
from defib.probe.graph import Graph
from defib.probe.objective import Objective
from defib.torchgraph.nodes import Node, options, saved_tensor

FLAT_NODES = ("SignBackward", "SgnBackward", "RoundBackward", "FloorBackward", "CeilBackward",
              "TruncBackward")  # fmt: skip
_RANK_MOST = 4096


@dataclass(frozen=True, kw_only=True)
class ActivationLayer:
    """One activation on the only way of the gradient to the first layer.

    Attributes:
        layer: Path of the layer in front of it.
        name: Name of the activation.
        bounded: Whether it saturates on both sides.
        is_off: Every entry lies where the derivative is exactly zero, on the off side.
        saturated: Share of entries whose derivative is under 1 % of its largest.
        decades: log10 of the norm of the gradient that it passes on over that of the one it gets.
        signal: RMS over samples of the norm of what it passes on, in units of the loss.
        is_output: No layer with weights stands between it and the loss.
    """

    layer: str
    name: str
    bounded: bool
    is_off: bool
    saturated: float
    decades: float
    signal: float
    is_output: bool


@dataclass(frozen=True, kw_only=True)
class Head:
    """The layer nearest to the loss.

    Attributes:
        path: Its path.
        parameters: Names of its parameters.
        has_bias: Whether it has a bias that learns.
        positions: Uses of its weights per sample.
        gates_all: Whether every other parameter reaches the loss only through it.
        rank: Rank of [features, 1]; -1 if not measured.
    """

    path: str
    parameters: tuple[str, ...]
    has_bias: bool
    positions: int
    gates_all: bool
    rank: int


@dataclass(frozen=True, kw_only=True)
class Census:
    """What one pass over one batch shows.

    Attributes:
        activations: On the gradient's only way to the first layer, from the loss on.
        flat: Names of operations on that way whose derivative is zero wherever it exists.
        is_constant: Whether the output is the same for every sample, to rounding; None if it
            cannot be told.
        unreached: Parameters that no way leads to.
        called: Paths of the modules that were called.
        head: The output layer; None if not found.
    """

    activations: tuple[ActivationLayer, ...]
    flat: tuple[str, ...]
    is_constant: bool | None
    unreached: tuple[str, ...]
    called: frozenset[str]
    head: Head | None


def census(objective: Objective, theta: Tensor | None = None) -> Census:
    """One forward and one backward pass over the first batch.

    Args:
        objective: The mean loss.
        theta: Parameters; None for the model's own.

    Returns:
        What they show.
    """
    piece = objective.pieces[0]
    leaves = objective.leaves(theta)
    with _Calls(objective.model) as calls:
        output, value = objective.call(leaves, piece)
    constant = _is_constant(output, piece)
    if value.grad_fn is None:
        return Census(
            activations=(),
            flat=(),
            is_constant=constant,
            unreached=objective.names,
            called=frozenset(calls.shapes),
            head=None,
        )
    graph = Graph(value.grad_fn, _named(objective, leaves))
    chain = _chain(graph)
    watch = _Ratios(graph, chain)
    found = objective.back(value, leaves)
    watch.forget()
    return Census(
        activations=tuple(watch.layer(n, piece) for n in chain if n in watch.seen),
        flat=tuple(n.name() for n in chain if n.name().startswith(FLAT_NODES)),
        is_constant=constant,
        unreached=tuple(n for n, g in zip(objective.names, found, strict=True) if g is None),
        called=frozenset(calls.shapes),
        head=_head(objective, graph, calls, piece),
    )


def _named(objective: Objective, leaves: list[Tensor]) -> dict[int, tuple[str, str]]:
    """For each leaf's id the path of its module and its attribute there."""
    found = {}
    for name, leaf in zip(objective.names, leaves, strict=True):
        path, _, attribute = name.rpartition(".")
        path = path.partition(".parametrizations")[0].removesuffix("parametrizations")
        found[id(leaf)] = (path, attribute)
    return found


def _chain(graph: Graph) -> list[Node]:
    """Nodes that all gradient of the first layer passes, from the loss to that layer."""
    producers = [n for n in graph.nodes if graph.is_producer(n)]
    return graph.chain(graph.root, producers[-1]) if producers else [graph.root]


def _is_constant(output: Any, piece: Piece) -> bool | None:
    """Whether every sample has the same output, to 64 roundings of its size."""
    output = getattr(output, "logits", output)
    if not isinstance(output, Tensor) or not output.ndim or output.shape[0] != piece.samples:
        return None
    if piece.samples < 2:
        return None
    values = output.detach().double()
    spread = float((values - values[:1]).abs().max())
    return spread <= 64 * torch.finfo(output.dtype).eps * max(float(values.abs().max()), 1e-30)


class _Calls:
    """The shape of each called module's output, and the input of the last call."""

    def __init__(self, model: nn.Module) -> None:
        self._paths = {id(m): path for path, m in model.named_modules()}
        self.shapes: dict[str, list[int]] = {}
        self.inputs: dict[str, Tensor] = {}

    def __enter__(self) -> "_Calls":
        self._handle = nn.modules.module.register_module_forward_hook(self._called)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._handle.remove()

    def _called(self, module: nn.Module, inputs: Any, output: Any) -> None:
        path = self._paths.get(id(module))
        if path is None:
            return
        self.shapes.setdefault(path, [])
        if isinstance(output, Tensor):
            self.shapes[path].append(output.numel())
        if inputs and isinstance(inputs[0], Tensor) and isinstance(module, nn.Linear):
            self.inputs[path] = inputs[0].detach()


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What an activation's node keeps of its forward pass, counted."""

    name: str
    bounded: bool
    is_off: bool
    saturated: float


def _kept(node: Node, activation: Activation) -> _Kept:
    constants = options(node)
    which = activation.saved(node.name())
    tensor = saved_tensor(node, which)
    off, share = False, math.nan
    if tensor is not None and tensor.numel():
        kind = str(tensor.dtype).removeprefix("torch.")
        flat = activation.flat(which, kind, constants)
        off = activation.may_die(constants) and bool((tensor <= flat.low).all())
        ends = activation.saturated(which, kind, constants)
        share = float(((tensor <= ends.low) | (tensor >= ends.high)).double().mean())
    return _Kept(name=activation.name, bounded=activation.is_bounded(constants), is_off=off, saturated=share)


class _Ratios:
    """Norms of the gradient on both sides of each activation of a chain."""

    def __init__(self, graph: Graph, chain: list[Node]) -> None:
        self._graph = graph
        self._before: dict[Node, float] = {}
        self._after: dict[Node, float] = {}
        self._handles = []
        # Before the backward pass: it frees what the nodes keep.
        self._kept = {n: _kept(n, a) for n in chain if (a := graph.activation(n)) is not None}
        for node in self._kept:
            self._handles.append(node.register_hook(self._listener(node)))

    def _listener(self, node: Node) -> Callable[[Any, Any], None]:
        def hear(inner: Any, outer: Any) -> None:
            if inner and inner[0] is not None and outer and outer[0] is not None:
                self._before[node] = float(outer[0].detach().double().norm())
                self._after[node] = float(inner[0].detach().double().norm())

        return hear

    def forget(self) -> None:
        """Takes the hooks away."""
        for handle in self._handles:
            handle.remove()

    @property
    def seen(self) -> Set[Node]:
        """The activations."""
        return self._kept.keys()

    def layer(self, node: Node, piece: Piece) -> ActivationLayer:
        """What is known of one activation."""
        kept = self._kept[node]
        producer = self._graph.producer(node)
        before, after = self._before.get(node, math.nan), self._after.get(node, math.nan)
        return ActivationLayer(
            layer="" if producer is None else self._graph.path(producer),
            name=kept.name,
            bounded=kept.bounded,
            is_off=kept.is_off,
            saturated=kept.saturated,
            decades=_decades(after, before),
            signal=after * math.sqrt(piece.samples),
            is_output=not any(self._graph.owned[n] for n in self._graph.chain(self._graph.root, node)),
        )


def _decades(after: float, before: float) -> float:
    """log10 of a ratio of norms; NaN where nothing came in."""
    if not before > 0:
        return math.nan
    return math.log10(after / before) if after > 0 else -math.inf


def _head(objective: Objective, graph: Graph, calls: _Calls, piece: Piece) -> Head | None:
    """The first producer from the loss on that is no normalisation."""
    producers = [n for n in graph.nodes if graph.is_producer(n)]
    first = next((n for n in producers if any(o.tensor.ndim > 1 for o in graph.owned[n])), None)
    if first is None:
        return None
    path = graph.path(first)
    own = tuple(n for n in objective.names if n.rpartition(".")[0] == path)
    others = [n for n in producers if graph.path(n) != path]
    units = next(o.tensor.shape[0] for o in graph.owned[first] if o.tensor.ndim > 1)
    sizes = calls.shapes.get(path, [])
    uses = graph.uses([first])
    rows = sum(sizes) / max(units * piece.samples, 1) if sizes else 1
    return Head(
        path=path,
        parameters=own,
        has_bias=any(n.rpartition(".")[2] == "bias" for n in own),
        positions=max(round(rows), uses, 1),
        gates_all=all(first in graph.chain(graph.root, n) for n in others),
        rank=_rank(calls.inputs.get(path), piece),
    )


def _rank(features: Tensor | None, piece: Piece) -> int:
    """Rank of [features, 1] over the samples, at the tolerance of its own rounding."""
    if features is None or features.ndim != 2 or features.shape[0] != piece.samples:
        return -1
    if max(features.shape) > _RANK_MOST or not bool(features.isfinite().all()):
        return -1
    ones = torch.ones(len(features), 1, dtype=torch.float64, device=features.device)
    return int(torch.linalg.matrix_rank(torch.cat([features.double(), ones], 1)))
