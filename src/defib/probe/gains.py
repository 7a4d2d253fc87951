"""The gain ledger: where the gradient shrinks and grows, from one real backward pass.

Letters: ``g_n`` the whole gradient that arrives at the output of node n, ``|.|`` the Euclidean norm.

Stations are the nodes that dominate the first layer: all gradient passes them, so log10 |g_m|/|g_n|
between neighbours adds up to the total exactly, whatever lies between. Where exactly one edge joins
two stations, the factor is that node's own: an activation's derivative, a matrix of weights, a
norm. Where several ways do, the part that comes around everything with parameters or curvature is
the skip s and the rest the branch r: |g|^2 = |s|^2 + 2<s,r> + |r|^2. Anything else is measured as
a whole and called unattributed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor

from defib.core.checkup import Block, Decades, GainLedger, Stretch
from defib.probe.graph import Graph, Kind, Node

_COLUMN = {Kind.ACTIVATION: "derivative", Kind.WEIGHTS: "weights", Kind.NORM: "norms", Kind.OTHER: "other"}


@dataclass(eq=False)
class _Parallel:
    """Several ways from one station to the next; the gradients that came by each are summed here."""

    top: Node
    bottom: Node
    skip_edges: frozenset[tuple[Node, int]]
    branch_edges: frozenset[tuple[Node, int]]
    inside: "list[_Step]"
    tail: Node | None
    why: str
    skip: dict[int, Tensor] = field(default_factory=dict)
    branch: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """From one station to the next."""

    top: Node
    bottom: Node
    parallel: _Parallel | None


class Gains:
    """Plans the ledger before a backward pass, listens during it, and adds up after it."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._norms: dict[Node, float] = {}
        self._handles: list[Callable[[], None]] = []
        producers = [n for n in graph.nodes if graph.is_producer(n)]
        # What was computed first: the input's own layer, not a state's of the first time step.
        self._bottom = min(producers, key=lambda n: int(n._sequence_nr()), default=None)
        self._steps: list[_Step] = []
        if self._bottom is None:
            return
        chain = graph.chain(graph.root, self._bottom)
        start = next((i for i, n in enumerate(chain) if graph.is_producer(n)), len(chain) - 1)
        self._steps = self._plan(chain[start:])

    def listen(self) -> None:
        """Registers a hook on every station; they live as long as the graph, which is one backward."""
        for step in self._all(self._steps):
            for node in (step.top, step.bottom):
                self._listen_at(node)
            if step.parallel is not None:
                self._collect_for(step.parallel)

    def _all(self, steps: list[_Step]) -> list[_Step]:
        found = []
        for step in steps:
            found.append(step)
            if step.parallel is not None:
                found += self._all(step.parallel.inside)
                if step.parallel.tail is not None:
                    self._listen_at(step.parallel.tail)
        return found

    def _listen_at(self, node: Node) -> None:
        if node in self._norms:
            return
        self._norms[node] = math.nan

        def note(grads: tuple[Tensor | None, ...]) -> None:
            self._norms[node] = norm(*grads)

        self._handles.append(node.register_prehook(note).remove)

    def _collect_for(self, parallel: _Parallel) -> None:
        """Sums the gradient that enters ``bottom``, apart for skip and branch."""
        for edges, sums in ((parallel.skip_edges, parallel.skip), (parallel.branch_edges, parallel.branch)):
            for parent in {p for p, _ in edges}:
                indices = [(i, parent.next_functions[i][1]) for p, i in edges if p is parent]
                self._handles.append(parent.register_hook(_adder(indices, sums)).remove)

    def forget(self) -> None:
        """Removes every hook; the graph may be kept by somebody else."""
        for remove in self._handles:
            remove()

    # ------------------------------------------------------------------ before

    def _plan(self, chain: list[Node]) -> list[_Step]:
        return [_Step(top=a, bottom=b, parallel=self._parallel(a, b)) for a, b in pairwise(chain)]

    def _parallel(self, top: Node, bottom: Node) -> _Parallel | None:
        """None where exactly one edge joins the two."""
        edges = self._graph.parents[bottom]
        if len(edges) == 1:
            return None
        plain = self._plain(top, bottom)
        skip = frozenset((p, i) for p, i in edges if p is top or p in plain)
        branch = frozenset(edges) - skip
        tails = {p for p, _ in branch}
        why = self._why(top, bottom, additive=bool(skip and branch))
        tail = tails.pop() if not why and len(branch) == 1 else None
        inside = [] if tail is None else self._inside(top, tail)
        return _Parallel(top, bottom, skip, branch, inside, tail, why)

    def _inside(self, top: Node, tail: Node) -> list[_Step]:
        """The branch's own stations: dominators of its last node."""
        return self._plan(self._graph.chain(top, tail))

    def _plain(self, top: Node, bottom: Node) -> set[Node]:
        """Nodes between the two that are reached from ``top`` through neither parameters nor curvature."""
        within = self._graph.between(top, bottom)
        found: set[Node] = set()
        stack = [c for c, _ in self._graph.children[top] if c in within]
        while stack:
            node = stack.pop()
            if node not in found and self._graph.kind(node) is Kind.OTHER and "Softmax" not in node.name():
                found.add(node)
                stack += [c for c, _ in self._graph.children[node] if c in within]
        return found

    def _why(self, top: Node, bottom: Node, *, additive: bool) -> str:
        """What the parallel ways are, in words; "" for one skip and one branch."""
        within = self._graph.between(top, bottom)
        most = self._graph.uses(within)
        if most > 2 and self._steps_in_time(within):
            return f"recurrence: one weight used {most} times"
        if additive:
            return ""
        if any("Softmax" in n.name() or "ScaledDotProduct" in n.name() for n in within):
            return "attention: query, key and value paths"
        return "parallel paths"

    def _steps_in_time(self, within: set[Node]) -> bool:
        """Whether one weight is used more than twice among these nodes; a single step is parted as usual."""
        counts: dict[int, int] = {}
        for owned in (o for n in within if self._graph.is_producer(n) for o in self._graph.owned[n]):
            counts[id(owned.tensor)] = counts.get(id(owned.tensor), 0) + 1
        return max(counts.values(), default=0) > 2

    # ------------------------------------------------------------------ after

    def ledger(self) -> GainLedger | None:
        """The ledger; None if no gradient could be followed over at least one step."""
        if self._bottom is None or not self._steps:
            return None
        top = self._steps[0].top
        rows = self._rows()
        return GainLedger(
            stretches=tuple(rows),
            start=self._norms[top],
            end=self._norms[self._bottom],
            start_layer=self._graph.path(top),
            end_layer=self._graph.path(self._bottom),
        )

    def _rows(self) -> list[Stretch]:
        """Stations drawn together: a row ends behind an activation or a block, and at the end."""
        rows: list[Stretch] = []
        pending, unknown, uses = Decades(), [], 1
        for step in self._steps:
            gain, why = self._gain(step)
            pending += gain
            uses = max(uses, self._uses(step))
            unknown += [why] if why else []
            activation = None if step.parallel else self._graph.activation(step.top)
            last = step is self._steps[-1]
            block = self._block(step)
            if activation is None and block is None and not last:
                continue
            producer = self._graph.producer(step.bottom)
            row = Stretch(
                layer=self._graph.path(producer) if producer is not None else "",
                activation=activation.name if activation else "",
                gain=pending,
                norm=self._norms[step.bottom],
                block=block,
                unknown="; ".join(dict.fromkeys(unknown)),
                uses=uses,
            )
            rows.append(row)
            pending, unknown, uses = Decades(), [], 1
        return rows

    def _uses(self, step: _Step) -> int:
        """How often the pass uses a weight that a step crosses."""
        within = self._graph.between(step.top, step.bottom) if step.parallel is not None else ()
        return self._graph.uses((step.top, *within))

    def _gain(self, step: _Step) -> tuple[Decades, str]:
        """Decades from one station to the next, and what could not be told."""
        size = decades(self._norms[step.top], self._norms[step.bottom])
        if step.parallel is not None:
            column = "unattributed" if step.parallel.why else "skips"
            return replace(Decades(), **{column: size}), step.parallel.why
        kind = self._graph.kind(step.top)
        if kind is Kind.FUSED:
            return Decades(unattributed=size), f"inside of {step.top.name()}"
        return replace(Decades(), **{_COLUMN[kind]: size}), ""

    def _block(self, step: _Step) -> Block | None:
        """The three exact parts of a block with a skip; None for anything else."""
        parallel = step.parallel
        if parallel is None or parallel.why:
            return None
        whole = self._norms[step.top] ** 2
        if not whole > 0:
            return None
        skip, branch = norm(*parallel.skip.values()), norm(*parallel.branch.values())
        return Block(
            skip=skip**2 / whole,
            cross=2 * inner(parallel.skip, parallel.branch) / whole,
            branch=branch**2 / whole,
            inside=self._within(parallel, branch),
        )

    def _within(self, parallel: _Parallel, end: float) -> Decades | None:
        """The branch's own ledger, from the block's output to what the branch adds at its input."""
        if parallel.tail is None:
            return None
        gains = [self._gain(step)[0] for step in parallel.inside]
        column = _COLUMN.get(self._graph.kind(parallel.tail), "unattributed")
        last = replace(Decades(), **{column: decades(self._norms[parallel.tail], end)})
        return sum(gains, last)


def _adder(
    indices: list[tuple[int, int]], sums: dict[int, Tensor]
) -> Callable[[tuple[Tensor | None, ...], tuple[Tensor | None, ...]], None]:
    """A node hook that adds the gradients on some of the node's edges to what came before."""

    def add(inputs: tuple[Tensor | None, ...], _outputs: tuple[Tensor | None, ...]) -> None:
        with torch.no_grad():
            for index, slot in indices:
                grad = inputs[index]
                if grad is not None:
                    value = real(grad)
                    sums[slot] = sums[slot] + value if slot in sums else value.clone()

    return add


def real(tensor: Tensor) -> Tensor:
    """Its numbers in float64; a complex number counts as two."""
    tensor = tensor.detach()
    return (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor).double()


def norm(*grads: Tensor | None) -> float:
    """Euclidean norm over all entries of all tensors, in float64; 0 for none."""
    squares = [float(real(g).square().sum()) for g in grads if g is not None]
    return math.sqrt(math.fsum(squares)) if all(map(math.isfinite, squares)) else math.nan


def inner(a: dict[int, Tensor], b: dict[int, Tensor]) -> float:
    """Inner product over the slots that both have."""
    return math.fsum(float((a[k] * b[k]).sum()) for k in a if k in b)


def decades(before: float, after: float) -> float:
    """log10(after / before); -inf where it becomes zero, 0 where it was, NaN for non-finite norms."""
    if before == 0 and after == 0:
        return 0.0
    if before == 0 or math.isnan(before) or math.isnan(after):
        return math.nan
    return math.log10(after / before) if after > 0 else -math.inf
