"""The way of a whole gradient through a graph: stations that all of it passes, and what lies between two.

Where several ways join two stations, the part that comes around everything with parameters or
curvature is the skip and the rest the branch, whose own stations are found in the same manner. What
meets exactly one attention has the ways of its query, key and value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from defib.core.checkup import Attention
from defib.probe.attention import Core, Split, cores, is_product
from defib.probe.graph import Graph, Kind
from defib.probe.sizes import Slots
from defib.torchgraph.nodes import SOFTMAXES, Node


@dataclass(eq=False)
class Parallel:
    """Several ways from one station to the next; the gradients that came by each are summed here.

    Attributes:
        top: The station at the loss's side.
        bottom: The next one.
        skip_edges: Edges into ``bottom`` that come around the branch: a node and the edge's index there.
        branch_edges: The others.
        inside: The branch's own steps.
        tail: The branch's last node; None if it has several.
        why: Why the ways cannot be told apart, in words; "" if they can.
        split: The attention whose ways they are, or which they hold; None if there is not exactly one.
        attention: Its parts, once they are known.
        skip: The gradient that came by the skip, by output number of ``bottom``.
        branch: And by the branch.
    """

    top: Node
    bottom: Node
    skip_edges: frozenset[tuple[Node, int]]
    branch_edges: frozenset[tuple[Node, int]]
    inside: "list[Step]"
    tail: Node | None
    why: str
    split: Split | None = None
    attention: Attention | None = None
    skip: Slots = field(default_factory=dict)
    branch: Slots = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Step:
    """From one station to the next."""

    top: Node
    bottom: Node
    parallel: Parallel | None


def every(steps: "Sequence[Step]") -> "list[Step]":
    """The steps, each followed by those inside its branch."""
    found = []
    for step in steps:
        found.append(step)
        if step.parallel is not None:
            found += every(step.parallel.inside)
    return found


class Planner:
    """Finds what lies between stations.

    Args:
        graph: The graph.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._cores = cores(graph)

    def plan(self, chain: list[Node]) -> list[Step]:
        """One step from each station to the next.

        Args:
            chain: The stations, as the gradient meets them.

        Returns:
            The steps.
        """
        return [Step(top=a, bottom=b, parallel=self._parallel(a, b)) for a, b in pairwise(chain)]

    def _parallel(self, top: Node, bottom: Node) -> Parallel | None:
        """None where exactly one edge joins the two."""
        edges = self._graph.parents[bottom]
        if len(edges) == 1:
            return None
        plain = self._plain(top, bottom)
        skip = frozenset((p, i) for p, i in edges if (p is top and not is_product(top)) or p in plain)
        branch = frozenset(edges) - skip
        tails = {p for p, _ in branch}
        tail = next(iter(tails)) if skip and len(branch) == 1 else None
        inside = [] if tail is None else self._inside(top, tail)
        deeper = any(s.parallel is not None and s.parallel.split is not None for s in every(inside))
        within = self._graph.between(top, bottom) | {top}
        met = [] if deeper else [c for c in self._cores if c.nodes <= within]
        why = self._why(within - {top}, additive=bool(skip and branch), met=met)
        split = Split(core=met[0], bottom=bottom) if len(met) == 1 and not why else None
        if why:
            inside, tail = [], None
        return Parallel(top, bottom, skip, branch, inside, tail, why, split)

    def _inside(self, top: Node, tail: Node) -> list[Step]:
        """The branch's own stations: dominators of its last node."""
        return self.plan(self._graph.chain(top, tail))

    def _plain(self, top: Node, bottom: Node) -> set[Node]:
        """Nodes between the two that are reached from ``top`` through neither parameters nor curvature."""
        within = self._graph.between(top, bottom)
        found: set[Node] = set()
        stack = [] if is_product(top) else [c for c, _ in self._graph.children[top] if c in within]
        while stack:
            node = stack.pop()
            curved = node.name() in SOFTMAXES or is_product(node)
            if node not in found and self._graph.kind(node) is Kind.OTHER and not curved:
                found.add(node)
                stack += [c for c, _ in self._graph.children[node] if c in within]
        return found

    def _why(self, within: set[Node], *, additive: bool, met: list[Core]) -> str:
        """What the parallel ways are, in words; "" for a skip and a branch, or the ways of one attention."""
        most = self._graph.uses(within)
        if most > 2 and self._steps_in_time(within):
            return f"recurrence: one weight used {most} times"
        if additive or len(met) == 1:
            return ""
        if met:
            return f"{len(met)} attentions share these ways"
        if any(n.name() in SOFTMAXES or is_product(n) for n in within):
            return "attention, or another product of two signals: query, key and value cannot be told apart"
        return "parallel paths"

    def _steps_in_time(self, within: set[Node]) -> bool:
        """Whether one weight is used more than twice among these nodes, and one use feeds another."""
        uses: dict[tuple[int, str], list[Node]] = {}
        for node in (n for n in within if self._graph.is_producer(n)):
            for owned in self._graph.owned[node]:
                uses.setdefault(owned.key, []).append(node)
        return any(self._feeds(nodes, within) for nodes in uses.values() if len(nodes) > 2)

    def _feeds(self, nodes: list[Node], within: set[Node]) -> bool:
        """Whether the way from the last of these nodes meets another of them."""
        last = max(nodes, key=lambda n: int(n._sequence_nr()))
        others, seen, stack = set(nodes) - {last}, {last}, [last]
        while stack:
            for child, _ in self._graph.children[stack.pop()]:
                if child in others:
                    return True
                if child in within and child not in seen:
                    seen.add(child)
                    stack.append(child)
        return False
