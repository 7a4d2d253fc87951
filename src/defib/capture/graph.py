"""Reads the autograd graph of one backward: activations, what feeds them, and their saved tensors.

The graph is walked from the loss at the moment ``backward`` is called. It shows
every activation, written as a module or as a function, and only what is really
trained: a validation pass has no backward. Nothing is registered on modules.

The walk visits nodes in order of ``_sequence_nr``, in which a producer always
comes before its consumer; so one pass carries "what lies upstream" along.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import torch

from defib.capture.dropped import dropped
from defib.capture.naming import Names, Owner
from defib.core.activation import Activation
from defib.core.activation_index import activation_of, activations
from defib.core.wiring import Crossing, Wiring
from defib.torchgraph.nodes import (
    CASTS,
    FUSED_ATTENTION,
    NORMS,
    RECURRENT,
    SOFTMAXES,
    Node,
    options,
    parameter_of,
    saved_tensor,
)

COMPILED = "runs inside torch.compile"
_OPAQUE = {
    "CompiledFunctionBackward": COMPILED,
    "MkldnnRnnLayerBackward0": "the inside of a fused recurrent kernel is not visible",
    "CudnnRnnBackward0": "the inside of a fused recurrent kernel is not visible",
    "CheckpointFunctionBackward": "runs inside a reentrant checkpoint",
}
_JOINING = ("AddBackward", "SubBackward", "CatBackward", "StackBackward")
_MULTIPLYING = ("MulBackward", "BmmBackward", "MmBackward", "DivBackward")
LOSSES = {
    "NllLossBackward0",
    "NllLoss2DBackward0",
    "MultiMarginLossBackward0",
    "BinaryCrossEntropyBackward0",
    "BinaryCrossEntropyWithLogitsBackward0",
    "MseLossBackward0",
    "SmoothL1LossBackward0",
    "HuberLossBackward0",
    "SoftMarginLossBackward0",
}
"""Loss functions that keep prediction and target for their backward."""
CUTS = {
    "SignBackward0",
    "SgnBackward0",
    "RoundBackward0",
    "RoundBackward1",
    "FloorBackward0",
    "CeilBackward0",
    "TruncBackward0",
    "BernoulliBackward0",
}
"""Operations whose derivative is zero everywhere: the gradient ends there."""

_MOST_DROPOUTS = 64
"""More of them in one graph are not looked at: each costs the reading of a mask."""


@dataclass(frozen=True, kw_only=True)
class Producer:
    """A node that applies parameters."""

    node: Node
    owner: Owner
    parameters: tuple[torch.Tensor, ...]
    order: int


@dataclass(frozen=True, kw_only=True)
class Tap:
    """One activation in the graph at hand.

    Attributes:
        wiring: What is said of it in the record.
        activation: What is known of its function.
        node: Its autograd node; alive only during this backward.
        producer: The node with parameters right upstream.
        direct: The activation's input is the producer's output, through nothing but a change of shape.
        axis: The unit axis of its input; None if it could not be told.
    """

    wiring: Wiring
    activation: Activation
    node: Node
    producer: Producer | None
    direct: bool
    axis: Callable[[torch.Tensor], int | None]


@dataclass(frozen=True, kw_only=True)
class Walk:
    """What one backward's graph holds.

    Attributes:
        taps: Activations, in order of data flow.
        reached: Paths of the layers whose parameters the graph reaches.
        opaque: Layer path to the reason why its inside is not visible.
        loss_operations: Node names between the loss and the last parameters, loss first.
        loss_node: The node of a loss function that torch has as such; None if there is none.
        first: The producer at the model's input, computed first; None if there are none.
        last: The producer nearest the loss, computed last.
        entries: Producers that take data, with none upstream; none if data enters elsewhere, too.
        cuts: Operations whose derivative is zero everywhere, each with the path of the layer upstream.
        dropped: Path of the layer upstream of a dropout to the largest share that is dropped there.
    """

    taps: tuple[Tap, ...]
    reached: frozenset[str]
    opaque: dict[str, str]
    loss_operations: tuple[str, ...]
    loss_node: Node | None
    first: Producer | None
    last: Producer | None
    entries: tuple[Producer, ...] = ()
    cuts: frozenset[tuple[str, str]] = frozenset()
    dropped: Mapping[str, float] = field(default_factory=dict)


@dataclass
class State:
    """What lies upstream of a node: the next activations and producers, met without passing another.

    ``crosses`` is what the ways from those activations cross, producers passed.
    """

    sources: frozenset[int] = frozenset()
    feeds: frozenset[int] = frozenset()
    direct: int | None = None
    crosses: frozenset[str] = frozenset()


@dataclass
class Walker:
    """Carries what lies upstream from node to node; producers and activations are known by their order.

    Attributes:
        names: Names of parameters.
        states: What lies upstream of each node visited.
        producers: Nodes that apply parameters.
        activations: Nodes of known activations.
        opaque: Layer path to the reason why its inside is not visible.
        reached: Paths of the layers whose parameters were met.
        cuts: Nodes whose derivative is zero everywhere.
        dropouts: Nodes that drop a share of what comes, with that share.
    """

    names: Names
    states: dict[Node, State] = field(default_factory=dict)
    producers: dict[int, Producer] = field(default_factory=dict)
    activations: dict[int, tuple[Node, Activation]] = field(default_factory=dict)
    opaque: dict[str, str] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    cuts: list[Node] = field(default_factory=list)
    dropouts: list[tuple[Node, float]] = field(default_factory=list)

    def visit(self, order: int, node: Node) -> None:
        """Take in one node; its inputs were visited before."""
        own, inputs = self.split(node)
        states = [self.states[child] for child in inputs if child in self.states]
        sources = frozenset().union(*(s.sources for s in states))
        feeds = frozenset().union(*(s.feeds for s in states))
        name = node.name()
        crosses = crossings(node, len(states)).union(*(s.crosses for s in states))
        activation = activation_of(name, options(node)) if name in _known_operations() else None
        owned = [(p, o) for p in own if (o := self.names.owner(p)) is not None]
        self.reached.update(o.path for _, o in owned)
        if activation is not None:
            self.activations[order] = (node, activation)
            first = self.states.get(inputs[0]) if inputs else None
            self.states[node] = State(frozenset({order}), frozenset({order}), None)
            self.states[node].direct = None if first is None else first.direct
            # An attention's map is no site: what comes through it has crossed the attention.
            self.states[node].crosses = crosses if name in SOFTMAXES and is_map(node) else frozenset()
        elif owned:
            if name in _OPAQUE:
                self.opaque.update({o.path: _OPAQUE[name] for _, o in owned})
            owner = next((o for _, o in owned if o.field == "weight"), owned[0][1])
            parameters = tuple(p for p, _ in owned)
            self.producers[order] = Producer(node=node, owner=owner, parameters=parameters, order=order)
            self.states[node] = State(frozenset({order}), feeds, order, crosses)
        else:
            if name in CUTS:
                self.cuts.append(node)
            share = dropped(node) if len(self.dropouts) < _MOST_DROPOUTS else 0.0
            if share > 0:
                self.dropouts.append((node, share))
            only = states[0].direct if len(states) == 1 and name in CASTS else None
            self.states[node] = State(sources, feeds, only, crosses)

    def split(self, node: Node) -> tuple[list[torch.Tensor], list[Node]]:
        """The parameters that enter a node, and the other nodes that feed it."""
        own: list[torch.Tensor] = []
        inputs: list[Node] = []
        for child, _ in node.next_functions:
            if child is None:
                continue
            parameter = parameter_of(child)
            if parameter is None:
                inputs.append(child)
            else:
                own.append(parameter)
        return own, inputs


def is_map(node: Node) -> bool:
    """Whether a softmax makes a map over more than two axes (an attention), not a model's output."""
    result = saved_tensor(node, "result")
    return result is not None and result.ndim > 2


def crossings(node: Node, ways: int) -> frozenset[str]:
    """What a gradient crosses at a node, other than weights: words of :class:`Crossing`.

    Args:
        node: The node.
        ways: How many other nodes feed it.

    Returns:
        One word at most.
    """
    found = _crossing(node.name(), ways > 1)
    return frozenset() if node.name() in SOFTMAXES and not is_map(node) else found


@cache
def _crossing(name: str, several: bool) -> frozenset[str]:
    """The word for a kind of node."""
    word: str | None = None
    if name in SOFTMAXES or FUSED_ATTENTION in name:
        word = Crossing.ATTENTION
    elif name in RECURRENT:
        word = Crossing.RECURRENCE
    elif name in _OPAQUE:
        word = Crossing.COMPILED if _OPAQUE[name] == COMPILED else Crossing.CHECKPOINT
    elif any(n in name for n in NORMS):
        word = Crossing.NORMALISATION
    elif several and name.startswith(_JOINING):
        word = Crossing.WAYS
    elif several and name.startswith(_MULTIPLYING):
        word = Crossing.PRODUCT
    return frozenset() if word is None else frozenset({word})


@cache
def _known_operations() -> frozenset[str]:
    """Names of the nodes that compute some activation's backward."""
    return frozenset(operation for a in activations() for operation in a.operations)
