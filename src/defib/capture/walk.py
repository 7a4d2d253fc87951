"""From the nodes of one backward to what is said of them: activations with their wiring, loss, cuts."""

import torch

from defib.capture.graph import LOSSES, Producer, State, Tap, Walk, Walker, crossings, is_map
from defib.capture.naming import Names
from defib.core.activation import Activation
from defib.core.site import Site
from defib.core.wiring import Crossing, Wiring
from defib.torchgraph.nodes import CASTS, NORMS, NOT_ELEMENTWISE, Node, collect, options, saved_tensor

_JOINING_DATA = frozenset(
    f"{name}Backward0" for name in ("Cat", "Stack", "Mm", "Bmm", "SparseAddmm", "IndexAdd", "ScatterAdd")
)
"""Operations that may take data beside what they were given; a frozen weight looks the same."""
_CHANNELS_FIRST = ("Convolution", "BatchNorm", "GroupNorm", "InstanceNorm")


def walk(roots: list[Node], names: Names) -> Walk:
    """Read the graph below ``roots``.

    Args:
        roots: ``grad_fn`` of the tensors that ``backward`` is called on.
        names: Names of parameters.

    Returns:
        Activations, producers and the loss function that it holds.
    """
    nodes = collect(roots)
    walker = Walker(names)
    for order, node in enumerate(nodes):
        walker.visit(order, node)
    return Walk(
        taps=_taps(walker),
        reached=frozenset(walker.reached),
        opaque=walker.opaque,
        loss_operations=_loss_operations(roots, walker),
        loss_node=next((n for n in reversed(nodes) if n.name() in LOSSES), None),
        first=_first(walker),
        last=walker.producers[max(walker.producers)] if walker.producers else None,
        entries=_entries(walker, nodes),
        cuts=frozenset((n.name(), _path(_last_producer(walker, n))) for n in walker.cuts),
        dropped=_dropped(walker),
    )


def _dropped(walker: Walker) -> dict[str, float]:
    """The largest share that is dropped behind each layer."""
    shares: dict[str, float] = {}
    for node, share in walker.dropouts:
        path = _path(_last_producer(walker, node))
        shares[path] = max(share, shares.get(path, 0.0))
    return shares


def _last_producer(walker: Walker, node: Node) -> Producer | None:
    """The producer computed last before a node, activations in between or not."""
    todo, seen = [node], {node}
    orders: list[int] = []
    places = {p.node: order for order, p in walker.producers.items()}
    while todo:
        here = todo.pop()
        if here in places:
            orders.append(places[here])
            continue
        _, inputs = walker.split(here)
        todo += [child for child in inputs if child not in seen]
        seen.update(inputs)
    return walker.producers[max(orders)] if orders else None


def _path(producer: Producer | None) -> str:
    return producer.owner.path if producer is not None else ""


def _first(walker: Walker) -> Producer | None:
    """The producer computed first; a transposed or cast weight is still a weight, and takes no data."""
    orders = [o for o, p in walker.producers.items() if p.node.name() not in CASTS]
    return walker.producers[min(orders)] if orders else None


def _entries(walker: Walker, nodes: list[Node]) -> tuple[Producer, ...]:
    """Producers that take data; none if data also joins further on (put beside it, an adjacency)."""
    ends = {p.node for p in walker.producers.values()}
    joining = [node for node in nodes if node.name() in _JOINING_DATA and node not in ends]
    if any(child is None for node in joining for child, _ in node.next_functions):
        return ()
    found = [p for p in walker.producers.values() if p.node.name() not in CASTS]
    return tuple(p for p in found if not _upstream(walker, p.node).sources)


def _loss_operations(roots: list[Node], walker: Walker) -> tuple[str, ...]:
    """Names of the operations between the loss and the first parameters, breadth first, at most 64."""
    parametric = {p.node for p in walker.producers.values()}
    names: list[str] = []
    level, seen = list(roots), set(roots)
    while level and len(names) < 64:
        node = level.pop(0)
        if node in parametric or getattr(node, "variable", None) is not None:
            continue
        names.append(node.name())
        for child, _ in node.next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                level.append(child)
    return tuple(names)


def _taps(walker: Walker) -> tuple[Tap, ...]:
    """Taps with their wiring: sites are numbered first, for wiring names the sites upstream."""
    feeding = frozenset().union(*(_upstream(walker, p.node).feeds for p in walker.producers.values()))
    sites: dict[int, Site] = {}
    mains: dict[int, Producer | None] = {}
    calls: dict[str, int] = {}
    for order, (node, activation) in walker.activations.items():
        if activation.name in NOT_ELEMENTWISE and is_map(node):
            continue
        main = _main_producer(walker, node)
        path = main.owner.path if main else f"({activation.name})"
        sites[order] = Site(path=path, call=calls.get(path, 0))
        calls[path] = calls.get(path, 0) + 1
        mains[order] = main
    return tuple(
        _tap(walker, order, position, sites, mains[order], order not in feeding)
        for position, order in enumerate(sites)
    )


def _upstream(walker: Walker, node: Node) -> State:
    """The state of everything that enters a node, its parameters left out."""
    _, inputs = walker.split(node)
    states = [walker.states[child] for child in inputs if child in walker.states]
    return State(
        sources=frozenset().union(*(s.sources for s in states)),
        feeds=frozenset().union(*(s.feeds for s in states)),
        crosses=crossings(node, len(states)).union(*(s.crosses for s in states)),
    )


def _main_producer(walker: Walker, node: Node) -> Producer | None:
    """The producer nearest upstream of an activation: of several branches, the last computed."""
    orders = [o for o in _upstream(walker, node).sources if o in walker.producers]
    return walker.producers[max(orders)] if orders else None


def _tap(
    walker: Walker,
    order: int,
    position: int,
    sites: dict[int, Site],
    producer: Producer | None,
    output: bool,
) -> Tap:
    node, activation = walker.activations[order]
    above = _upstream(walker, node)
    before = _upstream(walker, producer.node) if producer else State()
    chain = _chain(walker, producer)
    units = _unit_count(producer)
    wiring = Wiring(
        site=sites[order],
        activation=activation.name,
        operation=node.name(),
        units=units,
        order=position,
        modules=(*chain, *_activation_module(producer, activation)),
        inputs=tuple(sites[o] for o in sorted(before.feeds) if o in sites),
        skips=tuple(sites[o] for o in sorted(above.sources) if o in sites),
        normalised=producer is not None and any(n in producer.node.name() for n in NORMS),
        options=options(node),
        output=output,
        dtype=_dtype(node, activation),
        # A skip that joins behind the producer is among ``skips``: the producer's own way is a single one.
        crosses=tuple(sorted((above.crosses - {Crossing.WAYS}) | before.crosses)),
    )
    direct = producer is not None and walker.states[node].direct == producer.order
    channels = producer is not None and any(n in producer.node.name() for n in _CHANNELS_FIRST)
    return Tap(
        wiring=wiring,
        activation=activation,
        node=node,
        producer=producer,
        direct=direct,
        axis=lambda tensor: _axis(tensor, units, channels),
    )


def _dtype(node: Node, activation: Activation) -> str:
    """Floating-point format of what an activation's node keeps; "" if it cannot be read."""
    tensor = saved_tensor(node, activation.saved(node.name()))
    return str(tensor.dtype).removeprefix("torch.") if tensor is not None else ""


def _unit_count(producer: Producer | None) -> int:
    """Length of the producer's unit axis, 0 if unknown."""
    if producer is None:
        return 0
    if producer.owner.transposed:
        return producer.owner.units
    vectors = [p for p in producer.parameters if p.ndim == 1]
    parameter = vectors[0] if vectors else producer.parameters[0]
    return int(parameter.shape[0]) if parameter.ndim else 0


def _axis(tensor: torch.Tensor, units: int, channels_first: bool) -> int | None:
    """Where the unit axis is: by the producer's kind, then by size."""
    candidates = (1, tensor.ndim - 1) if channels_first else (tensor.ndim - 1, 1)
    return next((a for a in candidates if 0 < a < tensor.ndim and tensor.shape[a] == units), None)


def _chain(walker: Walker, producer: Producer | None) -> tuple[str, ...]:
    """Paths from the layer in front of a norm to the norm itself; just the producer otherwise."""
    if producer is None:
        return ()
    if not any(n in producer.node.name() for n in NORMS):
        return (producer.owner.path,)
    before = [o for o in _upstream(walker, producer.node).sources if o in walker.producers]
    first = (walker.producers[before[0]].owner.path,) if len(before) == 1 else ()
    return (*first, producer.owner.path)


def _activation_module(producer: Producer | None, activation: Activation) -> tuple[str, ...]:
    """The path of the activation's own module, if the module right behind the producer looks like it."""
    wanted = activation.name.replace("_", "")
    siblings = producer.owner.siblings if producer else ()
    return tuple(path for path, kind in siblings if kind.lower().startswith(wanted))[:1]
