"""A batch sent through the graph: which units fire, which samples have a path, and whether samples mix.

Letters: ``B`` samples at a time, ``U`` units.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from defib.probe.certificates import paths
from defib.probe.certificates.bends import Activated
from defib.probe.certificates.bounds import placed
from defib.probe.certificates.builder import build
from defib.probe.certificates.steps import Step
from defib.probe.certificates.tracing import Traced, named

Value = Any


@dataclass(eq=False)
class Sent:
    """What one pass of B samples showed.

    Attributes:
        arguments: What entered each activation, in order.
        outputs: What came out.
        live: Reached numbers behind each activation and of the outputs, if paths were followed.
        not_followed: Operations that were taken to pass everything on.
    """

    arguments: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    live: list[Tensor] = field(default_factory=list)
    not_followed: set[str] = field(default_factory=set)


class Sender:
    """Runs a graph on batches of the size that it was traced for.

    Args:
        trace: The graph.
        samples: That size.
        dtype: The model's format.
    """

    def __init__(self, trace: Traced, samples: int, dtype: torch.dtype) -> None:
        self.samples = samples
        self._trace = trace
        self._inputs = [n for n in trace.inputs if n is not None]
        self._steps: dict[fx.Node, Step | None] = {}
        self.fixed: dict[fx.Node, Value] = dict(trace.values)
        varying = set(self._inputs)
        for node in trace.graph.nodes:
            if node.op == "output" or node in varying:
                continue
            place = placed(node, self.fixed, varying, trace, dtype)
            if place is not None:
                varying.add(node)
                several = isinstance(node.meta.get("val"), (tuple, list))
                self._steps[node] = None if several else _built(place)
        self.activations = [(n, s) for n, s in self._steps.items() if isinstance(s, Activated)]
        last: dict[fx.Node, fx.Node] = {}
        for node, built in self._steps.items():
            # Of several results one is followed where it is taken out; what entered counts until then.
            last |= dict.fromkeys([*node.all_input_nodes, *(built.parents if built else ())], node)
        self._done: dict[fx.Node, list[fx.Node]] = {}
        for old, at in last.items():
            if old not in trace.outputs:
                self._done.setdefault(at, []).append(old)

    def send(
        self,
        inputs: Sequence[Tensor],
        follow: bool = False,
        change: Callable[[fx.Node, Value], Value] = lambda _, value: value,
    ) -> Sent:
        """One pass.

        Args:
            inputs: Samples for each input, shape (B, ...).
            follow: Follow the paths too.
            change: Given each node and its value, gives the value to go on with.

        Returns:
            What it showed.
        """
        values: dict[fx.Node, Value] = {n: change(n, x) for n, x in zip(self._inputs, inputs, strict=True)}
        live = {n: torch.ones(x.shape, dtype=torch.float64) for n, x in values.items()} if follow else {}
        sent = Sent()
        with torch.no_grad():
            for node in self._steps:
                values[node] = change(node, self._value(node, values))
                step = self._steps[node]
                if isinstance(step, Activated):
                    sent.arguments.append(values[step.parents[0]].cpu())
                if follow:
                    self._follow(node, step, values, live, sent)
                for old in self._done.get(node, ()):
                    values.pop(old, None)
                    live.pop(old, None)
        sent.outputs = [(values if n in values else self.fixed)[n] for n in self._trace.outputs]
        if follow:
            ends = [live[n].flatten(1) for n in self._trace.outputs if n in live and self._is_batch(live[n])]
            sent.live.append(torch.cat(ends, dim=1) if ends else torch.ones(self.samples, 1))
        return sent

    def _value(self, node: fx.Node, values: dict[fx.Node, Value]) -> Value:
        def held(n: fx.Node) -> Value:
            return values[n] if n in values else self.fixed[n]

        args, kwargs = fx.node.map_arg((node.args, node.kwargs), held)
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def _follow(
        self, node: fx.Node, step: Step | None, values: dict[fx.Node, Value], live: dict[fx.Node, Tensor],
        sent: Sent,
    ) -> None:  # fmt: skip
        """What of a node's numbers is reached."""
        value = values[node]
        above = [live[n] for n in node.all_input_nodes if n in live]
        if not isinstance(value, Tensor):  # one of several results: followed where it is taken out
            live[node] = paths.everything(above, (self.samples,), self.samples)
            return
        found = None
        if step is not None and all(p in live and p in values for p in step.parents):
            parents = [live[p] for p in step.parents]
            found = paths.reached(step, parents, [values[p].cpu() for p in step.parents], value.shape)
        if found is None:
            found = paths.everything(above, value.shape, self.samples)
            if value.is_floating_point() and node.users:
                sent.not_followed.add(f"{node.name} ({named(node)})")
        live[node] = found
        if isinstance(step, Activated):
            all_ones = torch.ones(self.samples, 1)
            sent.live.append(found.reshape(self.samples, -1) if self._is_batch(found) else all_ones)

    def _is_batch(self, value: Tensor) -> bool:
        return value.dim() > 0 and value.shape[0] == self.samples

    def mixes(self, inputs: Sequence[Tensor]) -> str:
        """Name of the first node whose numbers depend on more than one sample of the batch; "" for none.

        Every operation that has bounds passes NaN on. A number that is NaN when the first sample is, and
        also when all the others are, depends on both.

        Returns:
            The name.
        """
        marked = [self._marked(inputs, first) for first in (True, False)]
        clean = self.send(inputs)
        names = [str(n.name) for n in (*(n for n, _ in self.activations), *self._trace.outputs)]
        all_of = [[*m.arguments, *m.outputs] for m in (*marked, clean)]
        for name, a, b, c in zip(names, *all_of, strict=True):
            if (torch.isnan(a) & torch.isnan(b) & ~torch.isnan(c)).any():
                return str(name)
        return ""

    def _marked(self, inputs: Sequence[Tensor], first: bool) -> Sent:
        """A pass in which the first sample, or each of the others, holds NaN alone."""
        where = slice(0, 1) if first else slice(1, None)

        def mark(node: fx.Node, value: Value) -> Value:
            if not (node in self._inputs or named(node) == "embedding") or not isinstance(value, Tensor):
                return value
            if not value.is_floating_point() or not self._is_batch(value):
                return value
            value = value.clone()
            value[where] = torch.nan
            return value

        return self.send(inputs, change=mark)


def pieces(count: int, size: int) -> Iterator[tuple[Tensor, int]]:
    """Indices of samples in pieces of one size, the last one filled up, and how many of them count."""
    for start in range(0, count, size):
        own = min(size, count - start)
        yield torch.cat([torch.arange(start, start + own), torch.full((size - own,), start)]), own


def _built(place: Any) -> Step | None:
    try:
        return build(place)
    except Exception:  # noqa: BLE001 - it is then taken to pass everything on
        return None
