"""Bounds of every node of a graph on a domain: intervals forward, then linear bounds substituted back.

The substitution (CROWN, Zhang et al. 2018; DeepPoly, Singh et al. 2019) takes linear forms of one node's
numbers, replaces the node by what it was computed from, each activation by a line above or below it as
the sign of its coefficient asks, and ends at the domain, where the largest value of a linear form is
known exactly. Letters: ``K`` linear forms (rows), ``n`` entries of a node.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx

from defib.core.evidence import Unseen
from defib.probe.certificates.bends import Activated
from defib.probe.certificates.builder import build
from defib.probe.certificates.linear import Copying, Product
from defib.probe.certificates.place import Place
from defib.probe.certificates.regions import BoxRegion, Region
from defib.probe.certificates.rounding import U64, gamma
from defib.probe.certificates.steps import Known, Passed, Step, Unknown
from defib.probe.certificates.tracing import Traced, is_random, named

_MEMORY = 2_000_000
"""Numbers that the rows of one substitution may hold at a time."""


class Entered(Step):
    """An input: linear forms end here."""

    bounding = False

    def __init__(self, region: Region) -> None:
        self.parents = ()
        self.region = region

    def forward(self, known: Sequence[Known]) -> Known:
        del known
        return Known.within(*self.region.ends())

    def backward(self, rows: Tensor, known: Sequence[Known], own: Known) -> Passed:
        del known, own
        return self.region.largest(rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class Upper:
    """Upper bounds of linear forms, shape (K,): of what the model computes, and of exact arithmetic."""

    computed: Tensor
    exact: Tensor


@dataclass(eq=False)
class Bounds:
    """What is known of every node that depends on the input.

    Attributes:
        steps: How each of them is bounded, in order.
        known: What is known of each.
        charge: Rounding of ours that rows which reach a node are charged with.
        exact: Ends of an activation's argument in exact arithmetic, where they are known.
        plain: Those ends as intervals alone gave them.
        refined: Arguments of activations for which linear bounds were computed.
        unsupported: Operations without bounds, and what was not refined.
    """

    steps: dict[fx.Node, Step] = field(default_factory=dict)
    known: dict[fx.Node, Known] = field(default_factory=dict)
    charge: dict[fx.Node, Tensor] = field(default_factory=dict)
    exact: dict[fx.Node, tuple[Tensor, Tensor]] = field(default_factory=dict)
    plain: dict[fx.Node, Known] = field(default_factory=dict)
    refined: set[fx.Node] = field(default_factory=set)
    unsupported: list[Unseen] = field(default_factory=list)

    def add(self, node: fx.Node, step: Step, known: Known) -> None:
        """Notes what is known of a node; a row is rounded once more for each way that joins there."""
        self.steps[node], self.known[node] = step, known
        self.charge[node] = known.slack + (len(node.users) + 4) * U64 * known.size
        self.exact[node] = known.low + known.error, known.high - known.error

    def upper(self, node: fx.Node, rows: Tensor) -> Upper:
        """Upper bounds of linear forms of one node's numbers.

        Args:
            node: The node.
            rows: Shape (K, *shape of the node).

        Returns:
            The bounds; inf where none was found.
        """
        waiting = {node: rows}
        order = list(self.steps)
        constant, size, model, lost = (torch.zeros(len(rows), dtype=torch.float64) for _ in range(4))
        visited = 0
        for at in reversed(order[: order.index(node) + 1]):
            here = waiting.pop(at, None)
            if here is None:
                continue
            step, own = self.steps[at], self.known[at]
            passed = step.backward(here, [self.known[p] for p in step.parents], own)
            away = here.abs()
            charged = away.flatten(1) @ torch.stack(
                [own.error.reshape(-1), self.charge[at].reshape(-1)], dim=1
            )
            model += charged[:, 0]
            lost += charged[:, 1] + gamma(4 * own.low.numel() + 64, U64) * passed.size
            constant += passed.constant
            size += passed.constant.abs()
            visited += 1
            for parent, through in zip(step.parents, passed.rows, strict=False):
                waiting[parent] = waiting[parent] + through if parent in waiting else through
        lost = lost * (1 + 1e-9) + gamma(4 * visited + 64, U64) * size + 1e-300
        exact = constant + lost
        computed = exact + model * (1 + 1e-6)
        return Upper(computed=_or_infinite(computed), exact=_or_infinite(exact))

    def refine(self, node: fx.Node, entries: Tensor, deadline: float) -> bool:
        """Replaces the ends of some entries of a node by linear bounds where those are tighter.

        Args:
            node: The node.
            entries: Flat indices.
            deadline: Time of ``time.perf_counter`` after which nothing more is begun.

        Returns:
            Whether all entries were done.
        """
        own = self.known[node]
        widest = max(self.known[n].low.numel() for n in self.steps)
        low, high = own.low.reshape(-1).clone(), own.high.reshape(-1).clone()
        exact = [e.reshape(-1).clone() for e in self.exact[node]]
        done = True
        at_once = max(1, _MEMORY // (4 * widest))
        for start in range(0, len(entries), at_once):
            some = entries[start : start + at_once]
            if time.perf_counter() > deadline:
                done = False
                break
            rows = torch.zeros(len(some), low.numel(), dtype=torch.float64)
            rows[torch.arange(len(some)), some] = 1.0
            rows = rows.reshape(len(some), *own.low.shape)
            above, below = self.upper(node, rows), self.upper(node, -rows)
            high[some], low[some] = high[some].minimum(above.computed), low[some].maximum(-below.computed)
            exact[1][some] = exact[1][some].minimum(above.exact)
            exact[0][some] = exact[0][some].maximum(-below.exact)
        shape = own.low.shape
        self.plain.setdefault(node, own)
        self.known[node] = replace(own, low=low.reshape(shape), high=high.reshape(shape))
        self.exact[node] = exact[0].reshape(shape), exact[1].reshape(shape)
        return done


def bounded(
    trace: Traced, regions: Mapping[fx.Node, Region], dtype: torch.dtype, deadline: float, linear: bool = True
) -> Bounds:
    """Bounds every node of a graph.

    Args:
        trace: The graph for one sample.
        regions: What the samples at each input can be.
        dtype: The model's format, where a node does not tell.
        deadline: Time of ``time.perf_counter`` after which only intervals are computed.
        linear: Substitute linear bounds back; False for intervals alone.

    Returns:
        What is known of each node.
    """
    found = Bounds()
    values: dict[fx.Node, Any] = dict(trace.values)
    varying: set[fx.Node] = set()
    late: list[str] = []
    for node in trace.graph.nodes:
        if node.op == "output":
            continue
        if node in regions:
            varying.add(node)
            step: Step = Entered(regions[node])
            found.add(node, step, step.forward(()))
            continue
        place = placed(node, values, varying, trace, dtype)
        if place is None:
            continue
        varying.add(node)
        if isinstance(node.meta.get("val"), (tuple, list)):
            continue  # one of several results is bounded where it is taken out
        step = _step(node, place, found)
        if linear and isinstance(step, Activated):
            _refine(found, step, deadline, late)
        found.add(node, *_forward(step, node, place, found))
    if late:
        found.unsupported.append(Unseen(what=", ".join(late), why="the time was over: interval bounds only"))
    return found


def placed(
    node: fx.Node, values: dict[fx.Node, Any], varying: set[fx.Node], trace: Traced, dtype: torch.dtype
) -> Place | None:
    """A node that depends on the input; None for one that does not, whose value is then computed."""
    if node in values:
        return None
    if node.op == "get_attr":
        values[node] = getattr(trace.module, str(node.target))
        return None
    depends = any(a in varying for a in node.all_input_nodes)
    if not depends and not is_random(node):
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: values[n])
        assert callable(node.target)
        with torch.no_grad():
            values[node] = node.target(*args, **kwargs)
        return None
    of, item = node, None
    if named(node) == "getitem" and isinstance(node.args[0], fx.Node):
        of, item = node.args[0], node.args[1]
    kind = node.meta.get("val")
    return Place(
        node=of,
        values=values,
        varying=frozenset(varying),
        dtype=getattr(kind, "dtype", dtype),
        shape=tuple(getattr(kind, "shape", ())),
        item=item if isinstance(item, int) else None,
    )


def _step(node: fx.Node, place: Place, found: Bounds) -> Step:
    """The step of a node; what has no bounds, or breaks, can be anything and is said to be so."""
    if is_random(place.node):
        return _unknown(node, place, found, "draws random numbers")
    try:
        step = build(place)
    except Exception as error:  # noqa: BLE001 - an argument of a kind that no rule foresaw
        return _unknown(node, place, found, f"{type(error).__name__}: {error}")
    if step is None or any(p not in found.known for p in step.parents):
        return _unknown(node, place, found, "no bounds for this operation")
    return step


def _unknown(node: fx.Node, place: Place, found: Bounds, why: str) -> Step:
    if place.dtype.is_floating_point and node.users:  # conditions and indices are nobody's number
        found.unsupported.append(
            Unseen(what=f"{place.node.name} ({place.node.target})", why=why.splitlines()[0])
        )
    return Unknown(place.name, place.shape)


def _forward(step: Step, node: fx.Node, place: Place, found: Bounds) -> tuple[Step, Known]:
    """A step and its enclosure, checked for its shape."""
    if isinstance(step, Unknown):
        return step, step.forward(())
    try:
        known = step.forward([found.known[p] for p in step.parents])
        if tuple(known.low.shape) != place.shape:
            raise ValueError(f"bounds of shape {tuple(known.low.shape)} for a result of shape {place.shape}")
    except Exception as error:  # noqa: BLE001 - a case that no rule foresaw must not become a wrong bound
        step = _unknown(node, place, found, f"{type(error).__name__}: {error}")
        return step, step.forward(())
    low = torch.nan_to_num(known.low, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    high = torch.nan_to_num(known.high, nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return step, replace(known, low=low, high=high)


def _refine(found: Bounds, step: Activated, deadline: float, late: list[str]) -> None:
    """Linear bounds for those numbers that enter an activation on more than one straight piece of it."""
    node = step.parents[0]
    if isinstance(found.steps[node], (Entered, Unknown)) or node in found.refined:
        return
    if _is_exact(found, node):
        found.refined.add(node)
        return
    own = found.known[node]
    straight = torch.zeros_like(own.low, dtype=torch.bool)
    for low, high in step.pieces():
        straight |= (own.low >= low) & (own.high <= high)
    entries = (~straight).reshape(-1).nonzero().reshape(-1)
    if not len(entries) or found.refine(node, entries, deadline):
        found.refined.add(node)
    else:
        late.append(node.name)


def _is_exact(found: Bounds, node: fx.Node) -> bool:
    """Whether intervals are exact at a node: one mixing linear step at most, and below it a box."""
    mixing = 0
    while not isinstance(step := found.steps[node], Entered):
        if not isinstance(step, (Copying, Product)) or len(step.parents) != 1:
            return False
        mixing += not step.local
        node = step.parents[0]
    return mixing <= 1 and isinstance(step.region, BoxRegion)


def _or_infinite(values: Tensor) -> Tensor:
    return torch.nan_to_num(values, nan=torch.inf, posinf=torch.inf)
