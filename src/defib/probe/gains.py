"""The gain ledger: where the gradient shrinks and grows, from one real backward pass.

Letters: ``g_n`` the whole gradient that arrives at the output of node n, ``|.|`` the Euclidean norm.

Stations are the nodes that dominate the first layer: all gradient passes them, so log10 |g_m|/|g_n|
between neighbours adds up to the total exactly, whatever lies between. Where exactly one edge joins
two stations, the factor is that node's own: an activation's derivative, a matrix of weights, a
norm. Where several ways do, the part that comes around everything with parameters or curvature is
the skip s and the rest the branch r: |g|^2 = |s|^2 + 2<s,r> + |r|^2. The ways of an attention are
parted by query, key and value (see :mod:`defib.probe.attention`). Anything else is measured as a
whole and called unattributed.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from defib.core.checkup import Attention, Block, Decades, GainLedger, Stretch
from defib.probe.attention import Split, attention_map, shares, sharpness
from defib.probe.graph import Graph, Kind
from defib.probe.sizes import adder, decades, inner, norm, total
from defib.probe.stations import Parallel, Planner, Step, every
from defib.torchgraph.nodes import Node, time_steps

_COLUMN = {Kind.ACTIVATION: "derivative", Kind.WEIGHTS: "weights", Kind.NORM: "norms", Kind.OTHER: "other"}


class Gains:
    """Plans the ledger before a backward pass, listens during it, and adds up after it."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._norms: dict[Node, float] = {}
        self._handles: list[Callable[[], None]] = []
        producers = [n for n in graph.nodes if graph.is_producer(n)]
        # What was computed first: the input's own layer, not a state's of the first time step.
        self._bottom = min(producers, key=lambda n: int(n._sequence_nr()), default=None)
        self._steps: list[Step] = []
        if self._bottom is None:
            return
        chain = graph.chain(graph.root, self._bottom)
        start = next((i for i, n in enumerate(chain) if graph.is_producer(n)), len(chain) - 1)
        self._steps = Planner(graph).plan(chain[start:])

    @property
    def ends(self) -> tuple[Node, Node]:
        """The first station, at the loss's side, and the last; only where there is a ledger."""
        return self._steps[0].top, self._steps[-1].bottom

    def listen(self) -> None:
        """Registers a hook on every station; they live as long as the graph, which is one backward."""
        for step in every(self._steps):
            for node in (step.top, step.bottom):
                self._listen_at(node)
            if step.parallel is not None:
                self._collect_for(step.parallel)
                if step.parallel.tail is not None:
                    self._listen_at(step.parallel.tail)

    def _listen_at(self, node: Node) -> None:
        if node in self._norms:
            return
        self._norms[node] = math.nan

        def note(grads: tuple[Tensor | None, ...]) -> None:
            self._norms[node] = norm(*grads)

        self._handles.append(node.register_prehook(note).remove)

    def _collect_for(self, parallel: Parallel) -> None:
        """Sums the gradient that enters ``bottom``, apart for skip and branch."""
        for edges, sums in ((parallel.skip_edges, parallel.skip), (parallel.branch_edges, parallel.branch)):
            for parent in {p for p, _ in edges}:
                indices = [(i, parent.next_functions[i][1]) for p, i in edges if p is parent]
                self._handles.append(parent.register_hook(adder(indices, sums)).remove)
        split = parallel.split
        for name, (node, index) in split.core.edges.items() if split is not None else ():
            sums = split.sent.setdefault(name, {}) if split is not None else {}
            self._handles.append(node.register_hook(adder([(index, 0)], sums)).remove)

    def forget(self) -> None:
        """Removes every hook; the graph may be kept by somebody else."""
        for remove in self._handles:
            remove()

    def part_attentions(self, why_not: str = "") -> None:
        """Sends what left each attention on to where its ways meet, by query, key and value.

        Args:
            why_not: Why no backward pass can be run a second time; "" if it can.
        """
        for step in every(self._steps):
            parallel = step.parallel
            if parallel is None or parallel.split is None:
                continue
            why = why_not
            if not why:
                try:
                    parallel.attention = self._attention(parallel, parallel.split)
                except RuntimeError as error:  # saved tensors that a checkpoint gives only once, say
                    why = str(error).partition("\n")[0]
            if parallel.attention is None and not parallel.skip:
                parallel.why = f"attention: {why or 'other ways than query, key and value lead around it'}"
            parallel.split.sent.clear()

    def attributed_as(self, other: "Gains") -> None:
        """Puts every stretch into the column into which another look at the same graph put it."""
        for mine, its in zip(every(self._steps), every(other._steps), strict=True):
            if mine.parallel is not None and its.parallel is not None:
                mine.parallel.why, mine.parallel.attention = its.parallel.why, its.parallel.attention

    def _attention(self, parallel: Parallel, split: Split) -> Attention | None:
        whole = total(parallel.skip, parallel.branch)
        found = shares(split.parts(), parallel.skip, whole, self._norms[parallel.top])
        rows = attention_map(split.core)
        if found is None or rows is None:
            return found
        entropy, uniform, softmax = sharpness(rows)
        return replace(found, entropy=entropy, uniform=uniform, softmax=softmax)

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
            pending += self._gain(step)[0]
            uses = max(uses, self._uses(step))
            unknown += [why for s in every([step]) if (why := self._gain(s)[1])]
            activation = None if step.parallel else self._graph.activation(step.top)
            last = step is self._steps[-1]
            block, attention = self._block(step), self._attention_in(step)
            if activation is None and block is None and attention is None and not last:
                continue
            producer = self._graph.producer(step.bottom)
            row = Stretch(
                layer=self._graph.path(producer) if producer is not None else "",
                activation=activation.name if activation else "",
                gain=pending,
                norm=self._norms[step.bottom],
                block=block,
                attention=attention,
                unknown="; ".join(dict.fromkeys(unknown)),
                uses=uses,
            )
            rows.append(row)
            pending, unknown, uses = Decades(), [], 1
        return rows

    def _uses(self, step: Step) -> int:
        """How often the pass uses a weight that a step crosses; a fused kernel uses its own at every time."""
        within = self._graph.between(step.top, step.bottom) if step.parallel is not None else ()
        return max(self._graph.uses((step.top, *within)), time_steps(step.top))

    def _gain(self, step: Step) -> tuple[Decades, str]:
        """Decades from one station to the next, and what could not be told."""
        size = decades(self._norms[step.top], self._norms[step.bottom])
        if step.parallel is not None:
            parallel = step.parallel
            column = "unattributed" if parallel.why else ("skips" if parallel.skip_edges else "attention")
            return replace(Decades(), **{column: size}), step.parallel.why
        kind = self._graph.kind(step.top)
        if kind is Kind.FUSED:
            return Decades(unattributed=size), f"inside of {step.top.name()}"
        return replace(Decades(), **{_COLUMN[kind]: size}), ""

    def _block(self, step: Step) -> Block | None:
        """The three exact parts of a block with a skip; None for anything else."""
        parallel = step.parallel
        if parallel is None or parallel.why or not parallel.skip_edges:
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

    def _attention_in(self, step: Step) -> Attention | None:
        """The first attention that a step crosses, itself or in its branch."""
        found = (s.parallel.attention for s in every([step]) if s.parallel is not None)
        return next((a for a in found if a is not None), None)

    def _within(self, parallel: Parallel, end: float) -> Decades | None:
        """The branch's own ledger, from the block's output to what the branch adds at its input."""
        if parallel.tail is None:
            return None
        gains = [self._gain(step)[0] for step in parallel.inside]
        column = _COLUMN.get(self._graph.kind(parallel.tail), "unattributed")
        last = replace(Decades(), **{column: decades(self._norms[parallel.tail], end)})
        return sum(gains, last)
