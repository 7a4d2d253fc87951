"""The autograd graph of one loss, read for its gains: nodes, kinds, names, and what dominates what.

Edges run as the gradient does, from the loss towards the input. A node n dominates m if every way
of the gradient from the loss to m leads through n; the chain of dominators is where the whole
gradient can be measured at one place.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from torch import Tensor, nn

from defib.core.activation import Activation
from defib.torchgraph.nodes import (
    CASTS,
    FUSED_ATTENTION,
    NORMS,
    NOT_ELEMENTWISE,
    PIECES,
    RECURRENT,
    Node,
    activation_at,
    is_leaf,
    piece_of,
)

_REGIONS = ("CompiledFunction", "CheckpointFunction")
"""Parts of the names of nodes that stand for a whole region."""
_FUSED = (*_REGIONS, *RECURRENT, FUSED_ATTENTION)
_OF_PARAMETERS = CASTS | PIECES


class Kind(Enum):
    """What a node does to the gradient."""

    ACTIVATION = auto()
    WEIGHTS = auto()
    NORM = auto()
    FUSED = auto()
    OTHER = auto()


@dataclass(frozen=True, kw_only=True)
class Owned:
    """A parameter at a node.

    Attributes:
        path: Path of the module that owns it.
        field: Its attribute there.
        tensor: The parameter.
        piece: Which piece of it, in a word; "" for all of it.
    """

    path: str
    field: str
    tensor: Tensor
    piece: str = ""

    @property
    def key(self) -> tuple[int, str]:
        """Tells pieces of parameters apart."""
        return id(self.tensor), self.piece


class Graph:
    """All nodes below a loss but the leaves; order as in the forward pass, reversed.

    Attributes:
        root: The loss's own node.
        nodes: Consumers before producers.
        children: For each node its edges (child, output number), leaves left out.
        parents: For each node the edges that lead to it: (parent, index of the edge there).
        dominator: For each node but the root, its nearest dominator.
    """

    def __init__(self, root: Node, names: dict[int, tuple[str, str]]) -> None:
        self.root = root
        self.nodes = _collect(root)
        self._names = names
        self.children: dict[Node, list[tuple[Node, int]]] = {}
        self.parents: dict[Node, list[tuple[Node, int]]] = {n: [] for n in self.nodes}
        self.owned: dict[Node, list[Owned]] = {}
        for node in self.nodes:
            edges = [(c, k) for c, k in node.next_functions]
            self.owned[node] = [o for c, k in edges if (o := self._owned(c, k)) is not None]
            self.children[node] = [(c, k) for c, k in edges if c in self.parents]
            for index, (child, _) in enumerate(edges):
                if child in self.parents:
                    self.parents[child].append((node, index))
        used = (o.key for node in self.nodes if self.is_producer(node) for o in self.owned[node])
        self._uses = Counter(used)
        self._place = {n: i for i, n in enumerate(self.nodes)}
        self.dominator = self._dominators()

    def kind(self, node: Node) -> Kind:
        """What a node does; a normalisation's own scale counts as the normalisation."""
        name = node.name()
        if any(n in name for n in _FUSED):
            return Kind.FUSED
        if any(n in name for n in NORMS):
            return Kind.NORM
        if self.activation(node) is not None:
            return Kind.ACTIVATION
        return Kind.WEIGHTS if self.owned[node] else Kind.OTHER

    def activation(self, node: Node) -> Activation | None:
        """The elementwise activation that a node computes; None if it is none."""
        found = activation_at(node)
        return None if found is None or found.name in NOT_ELEMENTWISE else found

    def is_producer(self, node: Node) -> bool:
        """Whether it applies parameters to data (a transposed weight takes no data)."""
        return bool(self.owned[node]) and node.name() not in _OF_PARAMETERS

    def producer(self, node: Node) -> Node | None:
        """The node with parameters nearest upstream of a node, itself included; None if there is none."""
        seen, level = {node}, [node]
        while level:
            level.sort(key=self._place.__getitem__)
            here = level.pop(0)
            if self.is_producer(here):
                return here
            for child, _ in self.children[here]:
                if child not in seen:
                    seen.add(child)
                    level.append(child)
        return None

    def uses(self, nodes: Iterable[Node]) -> int:
        """How often the whole pass uses the most used weight at these nodes; at least 1."""
        counts = (self._uses.get(o.key, 1) for node in nodes for o in self.owned[node])
        return max(counts, default=1)

    def path(self, node: Node) -> str:
        """Path of the module whose parameters a producer applies."""
        owned = self.owned[node]
        return next((o.path for o in owned if o.field == "weight"), owned[0].path if owned else "")

    def between(self, top: Node, bottom: Node) -> set[Node]:
        """Nodes on the ways from ``top`` to ``bottom``, both left out."""
        found: set[Node] = set()
        stack = [p for p, _ in self.parents[bottom]]
        while stack:
            node = stack.pop()
            if node is not top and node not in found:
                found.add(node)
                stack += [p for p, _ in self.parents[node]]
        return found

    def chain(self, top: Node, bottom: Node) -> list[Node]:
        """The dominators of ``bottom`` from ``top`` down to ``bottom`` itself."""
        nodes = [bottom]
        while nodes[-1] is not top:
            nodes.append(self.dominator[nodes[-1]])
        return nodes[::-1]

    def _owned(self, node: Node, output: int) -> Owned | None:
        found = piece_of(node, output)
        place = None if found is None else self._names.get(id(found[0]))
        if found is None or place is None:
            return None
        return Owned(path=place[0], field=place[1], tensor=found[0], piece=found[1])

    def _dominators(self) -> dict[Node, Node]:
        """Nearest dominators in one pass: consumers come before producers (Cooper, Harvey, Kennedy)."""
        nearest: dict[Node, Node] = {self.root: self.root}
        for node in self.nodes[1:]:
            above = [p for p, _ in self.parents[node]]
            common = above[0]
            for other in above[1:]:
                common = self._meet(nearest, common, other)
            nearest[node] = common
        return nearest

    def _meet(self, nearest: dict[Node, Node], a: Node, b: Node) -> Node:
        while a is not b:
            if self._place[a] > self._place[b]:
                a = nearest[a]
            else:
                b = nearest[b]
        return a


def named(model: nn.Module) -> dict[int, tuple[str, str]]:
    """For each parameter's id the path of its module and its attribute there."""
    found: dict[int, tuple[str, str]] = {}
    for name, parameter in model.named_parameters():
        path, _, attribute = name.rpartition(".")
        if ".parametrizations." in f".{name}":
            continue  # what makes a weight out of it takes no data; the layer is known by its bias
        found[id(parameter)] = (path, attribute)
    return found


def _collect(root: Node) -> list[Node]:
    """All nodes but leaves in topological order, consumers first (Kahn)."""
    waiting: dict[Node, int] = {root: 0}
    stack = [root]
    while stack:
        for child in _inner(stack.pop()):
            if child not in waiting:
                waiting[child] = 0
                stack.append(child)
            waiting[child] += 1
    order, ready = [], [root]
    while ready:
        node = ready.pop()
        order.append(node)
        for child in _inner(node):
            waiting[child] -= 1
            if not waiting[child]:
                ready.append(child)
    return order


def _inner(node: Node) -> Iterable[Node]:
    """Children that are not leaves."""
    return (c for c, _ in node.next_functions if c is not None and not is_leaf(c))
