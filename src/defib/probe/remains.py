"""The dead units of a live model, on all the data, with everything that will decide their future.

The model is run once over the data, in the mode it is in; its optimiser is read and not touched.

Letters: ``N`` samples (a convolution: one for each position), ``D`` features, ``U`` units.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from defib.core.errors import UsageError
from defib.core.evidence import Unseen
from defib.core.remains import Remains
from defib.probe.batch import divided
from defib.probe.graph import Graph, Owned, named
from defib.probe.rates import Rates
from defib.probe.rehearsal import Rehearsal
from defib.probe.state import untouched
from defib.torchgraph.features import can_be_read, features, feeds_on_data
from defib.torchgraph.nodes import CASTS, Node, options
from defib.torchgraph.unit_state import is_plain, rows_of

MOST_BYTES = 1 << 30
"""Most memory of the features of one layer; beyond it every other sample is left out."""


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What one look at a live model brought.

    Attributes:
        remains: For each layer with dead units, in order of the forward pass.
        rehearsals: For each of them, what rolls its units forward in torch's own arithmetic.
        units: Units of all layers that were looked at.
        samples: Samples that were run.
        unseen: Layers whose units can die and could not be looked at, and why.
    """

    remains: tuple[Remains, ...]
    rehearsals: tuple[Rehearsal, ...]
    units: int
    samples: int
    unseen: tuple[Unseen, ...]


@dataclass(eq=False)
class _Layer:
    """One layer on its way through the data."""

    path: str
    first: bool
    threshold: float
    parameters: dict[str, Tensor]
    peak: NDArray[np.float64]
    rows: list[NDArray[np.floating[Any]]] = field(default_factory=list)
    seen: int = 0
    spacing: int = 1

    def take(self, found: Tensor) -> None:
        """Takes in the features of one batch, shape (N, D)."""
        weight, bias = self.parameters["weight"], self.parameters.get("bias")
        wide = found.double()
        z = wide @ weight.detach().double().reshape(len(weight), -1).T
        if bias is not None:
            z = z + bias.detach().double()
        self.peak = np.maximum(self.peak, z.amax(0).cpu().numpy())
        first = -self.seen % self.spacing
        self.seen += len(found)
        self.rows.append(found.cpu().numpy()[first :: self.spacing])
        if sum(rows.nbytes for rows in self.rows) > MOST_BYTES:
            self.spacing *= 2
            self.rows = [np.concatenate(self.rows)[::2].copy()]

    @property
    def dead(self) -> NDArray[np.int64]:
        """Units that fire for no sample."""
        return np.flatnonzero(self.peak <= self.threshold)


def gather(
    model: nn.Module,
    optimizers: tuple[torch.optim.Optimizer, ...],
    data: object,
    *,
    rates: Rates | None = None,
    step: int = 0,
) -> Gathered:
    """Looks for units that fire for no sample, and at what acts on them.

    Model, gradients, optimisers and random generators are left bit for bit as they were.

    Args:
        model: In the mode in which it trains.
        optimizers: Its optimisers, with the state they have now.
        data: All samples: one batch, or an iterable of batches.
        rates: The learning rates to come; None if they stay.
        step: Optimiser steps taken so far.

    Returns:
        The remains.

    Raises:
        UsageError: If the model raises, or there is no data.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile: the inside of what it makes is not visible
    layers: dict[str, _Layer] = {}
    unseen: dict[str, str] = {}
    samples = 0
    with untouched(model), torch.enable_grad():
        for batch in batches(data):
            arguments, keywords, _ = divided(batch)
            samples += _length(arguments, keywords)
            root = _run(model, arguments, keywords)
            if root is not None:
                _look(Graph(root, named(model)), layers, unseen)
    if not samples:
        raise UsageError("there is no data: give one batch, or an iterable of batches such as a DataLoader")
    hit = [layer for layer in layers.values() if len(layer.dead)]
    return Gathered(
        remains=tuple(_remains(layer, optimizers, rates, step) for layer in hit),
        rehearsals=tuple(_rehearsal(layer, optimizers, rates) for layer in hit),
        units=sum(len(layer.peak) for layer in layers.values()),
        samples=samples,
        unseen=tuple(Unseen(what=path, why=why) for path, why in unseen.items() if path not in layers),
    )


def batches(data: object) -> Iterator[object]:
    """The batches of what was given.

    Args:
        data: One batch (a tensor, a tuple, a mapping, a list of tensors), or an iterable of batches.

    Yields:
        Batches as :func:`defib.probe.checkup.divided` takes them.

    Raises:
        UsageError: If it is neither.
    """
    is_list_of_tensors = isinstance(data, list) and data and all(isinstance(x, Tensor) for x in data)
    if isinstance(data, (Tensor, Mapping, tuple)) or is_list_of_tensors:
        yield _alone(data)
        return
    if isinstance(data, torch.utils.data.Dataset) or not isinstance(data, Iterable):
        raise UsageError(
            f"data is to be one batch or an iterable of batches (a DataLoader), not {type(data).__name__}"
        )
    for batch in data:
        yield _alone(batch)


def _alone(batch: object) -> object:
    """A batch of one thing is that thing: a DataLoader gives lists, also of length 1."""
    return batch[0] if isinstance(batch, (list, tuple)) and len(batch) == 1 else batch


def _length(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> int:
    """Samples in a batch."""
    tensors = [t for t in (*arguments, *keywords.values()) if isinstance(t, Tensor) and t.ndim]
    return int(tensors[0].shape[0]) if tensors else 0


def _run(model: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Node | None:
    """The root of the graph of one forward pass; None if nothing in it needs a gradient."""
    try:
        output = model(*arguments, **keywords)
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        raise UsageError(f"the model raised {type(error).__name__}: {said}") from error
    needed = [t.sum() for t in _tensors(output) if t.requires_grad and t.is_floating_point()]
    return torch.stack([t.float() for t in needed]).sum().grad_fn if needed else None


def _tensors(output: object) -> Iterator[Tensor]:
    """The tensors in whatever a model gives."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _tensors(value)


def _look(graph: Graph, layers: dict[str, _Layer], unseen: dict[str, str]) -> None:
    """Takes the features of every layer whose units can die."""
    for node in reversed(graph.nodes):
        activation = graph.activation(node)
        if activation is None or not activation.may_die(options(node)):
            continue
        producer = _right_upstream(graph, node)
        if producer is None:
            unseen.setdefault(_nearest(graph, node), "what stands right before its activation is no layer")
            continue
        path, own = graph.path(producer), graph.owned[producer]
        low = activation.flat("self", "float64", options(node)).low
        layer = layers.get(path) or _layer(producer, path, own, low)
        found = features(producer) if layer is not None else None
        if layer is None or found is None:
            unseen.setdefault(path, "normalisation, grouped convolutions and the like are not followed")
            continue
        layer.first = layer.first and feeds_on_data(producer, tuple(o.tensor for o in own))
        layers[path] = layer
        layer.take(found)


def _nearest(graph: Graph, node: Node) -> str:
    producer = graph.producer(node)
    return graph.path(producer) if producer is not None else "run"


def _right_upstream(graph: Graph, node: Node) -> Node | None:
    """The producer whose output is this activation's input, in another shape perhaps."""
    for _ in range(8):
        below = [child for child, _ in graph.children[node]]
        if len(below) != 1:
            return None
        node = below[0]
        if graph.is_producer(node):
            return node
        if node.name() not in CASTS:
            return None
    return None


def _layer(producer: Node, path: str, own: list[Owned], low: float) -> _Layer | None:
    """A layer that is met for the first time; None if its units are not rows of its weight."""
    parameters = tuple(o.tensor for o in own)
    whole = all(is_plain(p) for p in parameters) and not any(o.piece for o in own)
    if not whole or not np.isfinite(low) or not can_be_read(producer, parameters):
        return None
    named_ = {("weight" if p.ndim > 1 else "bias"): p for p in parameters}
    peak = np.full(len(named_["weight"]), -np.inf)
    return _Layer(path=path, first=True, threshold=float(low), parameters=named_, peak=peak)


def _remains(
    layer: _Layer, optimizers: tuple[torch.optim.Optimizer, ...], rates: Rates | None, step: int
) -> Remains:
    parts = []
    for name, parameter in sorted(layer.parameters.items()):
        owner = next((o for o in optimizers if _owns(o, parameter)), None)
        units = torch.from_numpy(layer.dead).to(parameter.device)
        rows = rows_of(name, parameter, units, owner, gradient_is_none=not parameter.requires_grad)
        lrs = rates.of(parameter) if rates is not None else None
        parts.append(rows.to_part(lambda t: t.detach().cpu().numpy(), lrs))
    return Remains(
        path=layer.path,
        units=layer.dead,
        step=step,
        parts=tuple(parts),
        features=np.concatenate(layer.rows),
        first_layer=layer.first,
        samples_seen=layer.seen,
        threshold=layer.threshold,
    )


def _rehearsal(
    layer: _Layer, optimizers: tuple[torch.optim.Optimizer, ...], rates: Rates | None
) -> Rehearsal:
    named_ = layer.parameters
    return Rehearsal(
        parameters=named_,
        optimizers={n: next((o for o in optimizers if _owns(o, p)), None) for n, p in named_.items()},
        lrs={n: None if rates is None else rates.of(p) for n, p in named_.items()},
        features=np.concatenate(layer.rows),
        threshold=layer.threshold,
    )


def _owns(optimizer: torch.optim.Optimizer, parameter: Tensor) -> bool:
    return any(p is parameter for group in optimizer.param_groups for p in group["params"])
