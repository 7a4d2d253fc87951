"""Why units died at one step: the exact split of the kill, its death-free factor, and what would revive them.

The passes of the step are made again with the parameters before and after it. All that is said of a
unit follows from its pre-activations s in these two, computed in float64 from the features that the
passes gave, so that the three terms add up to rounding. See ``docs/autopsy.md`` for the algebra.

Letters: ``N`` rows (samples, or positions of them), ``K`` chosen units, ``U`` units of a layer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from defib.core.evidence import Unseen
from defib.core.kill import Inquest, Kills, LayerKill
from defib.probe.graph import Graph
from defib.probe.ownstep import shares
from defib.probe.products import Use
from defib.probe.ray import Search, first_deaths
from defib.probe.rerun import Passed, quiet, rerun
from defib.torchgraph.nodes import CASTS, Node, options

Array = NDArray[np.float64]

UNLIKE = "the pass gave something else when it was made again: the user's hooks, or state of its own"


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A layer right in front of an activation with an off side.

    Attributes:
        low: Pre-activation at and below which the activation's derivative is 0.
        count: How often the passes use it.
    """

    low: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Pre-activations of some units of one layer, from the edge of the off side, float64, shape (N, K).

    Attributes:
        before: w0 h0 + b0.
        after: w1 h1 + b1.
        own: (w1 - w0) h0 + (b1 - b0).
        upstream: w0 (h1 - h0).
        cross: (w1 - w0) (h1 - h0).
        mean: w1 times the mean of h1 over the rows (broadcast to them).
        negative: The negative part of w1, times h1.
        moved: Some feature is not the same before and after.
    """

    before: Tensor
    after: Tensor
    own: Tensor
    upstream: Tensor
    cross: Tensor
    mean: Tensor
    negative: Tensor
    moved: bool


def inquire(inquest: Inquest) -> Kills:
    """Look into one step.

    The model, its gradients and all generators are left bit for bit as they were; its code is run, so
    what it keeps in lists of its own grows by as many passes as are made.

    Args:
        inquest: Model, parameters before and after, and the passes of the step.

    Returns:
        One answer for each layer with units that were asked about (or killed), in order of data flow.
    """
    model: nn.Module = inquest.model
    wanted = None if inquest.suspects is None else set(inquest.suspects)
    with quiet(model):
        first = rerun(model, inquest.before, inquest.calls, wanted)
        if not first.same:
            return Kills(layers=(), unseen=(Unseen(what="run", why=UNLIKE),))
        edges, unseen = _edges(first, wanted)
        second = rerun(model, inquest.after, inquest.calls, edges)
        found = list(_layers(inquest, edges, first.uses, second.uses))
        deep = {path: (layer.units[layer.dead], edges[path].low) for path, layer in found if not layer.exact}
        deep = {path: entry for path, entry in deep.items() if len(entry[0])}
        del first, second
        searched = first_deaths(Search(inquest, deep)) if deep and inquest.seconds > 0 else {}
    layers = [_with_search(layer, searched.get(path)) for path, layer in found]
    return Kills(layers=tuple(layers), unseen=tuple(unseen))


def _with_search(layer: LayerKill, found: tuple[Array, Array, Array] | None) -> LayerKill:
    """The layer with what the search along the step found for its dead units."""
    if found is None:
        return layer
    for name, values in zip(("alpha", "alpha_low", "alpha_high"), found, strict=True):
        getattr(layer, name)[layer.dead] = values
    return layer


# ------------------------------------------------------------------ which layers


def _edges(passed: Passed, wanted: set[str] | None) -> tuple[dict[str, Edge], list[Unseen]]:
    """Layers whose output goes straight into an activation that can die, in order of data flow."""
    heads = [t for t in passed.outputs if t.grad_fn is not None]
    places = {id(t): (n.rpartition(".")[0], n.rpartition(".")[2]) for n, t in passed.leaves.items()}
    found: dict[str, Edge] = {}
    unseen: dict[str, str] = {}
    if heads:
        graph = Graph(torch.stack([t.sum().to(heads[0].device) for t in heads]).sum().grad_fn, places)
        for node in reversed(graph.nodes):
            low = _low(graph, node)
            producer = graph.producer(node) if low is not None else None
            if low is None or producer is None:
                continue
            path = graph.path(producer)
            if _straight(node, producer):
                known = found.get(path, Edge(low=low, count=0))
                found[path] = Edge(low=low, count=known.count + (1 if known.low == low else len(graph.nodes)))
            else:
                unseen[path] = "more than its own output enters its activation (a skip, a pooling)"
    for path in set(found) | set(unseen) if wanted is None else wanted:
        if path not in unseen and path not in found:
            unseen[path] = "no activation that can die follows it right away"
        elif path in found and len(passed.uses.get(path, ())) != found[path].count:
            unseen[path] = "its uses cannot be told apart, or are of a kind that is not known"
    kept = {p: e for p, e in found.items() if p not in unseen and (wanted is None or p in wanted)}
    told = [Unseen(what=p, why=w) for p, w in unseen.items() if wanted is None or p in wanted]
    return kept, told


def _low(graph: Graph, node: Node) -> float | None:
    """Edge of an activation's off side; None if it is none, or has no such side."""
    activation = graph.activation(node)
    constants = options(node)
    if activation is None or not activation.may_die(constants):
        return None
    low = activation.flat("self", "float32", constants).low
    return low if np.isfinite(low) else None


def _straight(node: Node, producer: Node) -> bool:
    """Whether an activation's input is a producer's output through nothing but changes of shape."""
    child = node.next_functions[0][0]
    while child is not None and child is not producer and child.name() in CASTS:
        child = child.next_functions[0][0]
    return child is producer


# ------------------------------------------------------------------ one layer


def _layers(
    inquest: Inquest, edges: Mapping[str, Edge], first: Mapping[str, list[Use]],
    second: Mapping[str, list[Use]],
) -> Iterator[tuple[str, LayerKill]]:  # fmt: skip
    for path, edge in edges.items():
        before, after = first[path], second.get(path, [])
        if [u.features.shape for u in before] != [u.features.shape for u in after]:
            continue  # the passes went another way: nothing can be compared sample by sample
        units = np.arange(before[0].units)
        if inquest.suspects is None:
            units = units[_killed(before, after, edge.low)]
        else:
            units = np.asarray(inquest.suspects[path], np.int64)
        if len(units):
            sides = _sides(before, after, torch.as_tensor(units), edge.low)
            yield path, _judged(inquest, path, units, sides, before, after)


def _killed(before: list[Use], after: list[Use], low: float) -> NDArray[np.bool_]:
    """Which units fire for some sample before and for none after, shape (U,)."""
    units = torch.arange(before[0].units)
    tops = []
    for uses in (before, after):
        rows = [u.rows(u.weight, u.bias, u.features, units) for u in (x.double() for x in uses)]
        tops.append(torch.cat([r.max(0, keepdim=True).values for r in rows]).max(0).values.cpu() - low)
    return np.asarray(((tops[0] > 0) & (tops[1] <= 0)).numpy(), np.bool_)


def _sides(before: list[Use], after: list[Use], units: Tensor, low: float) -> Sides:
    """All products of one layer, one use after the other."""
    parts: list[list[Tensor]] = []
    moved = False
    for old, new in zip((u.double() for u in before), (u.double() for u in after), strict=True):
        dw, dh = new.weight - old.weight, new.features - old.features
        db = None if old.bias is None or new.bias is None else new.bias - old.bias
        moved = moved or bool(dh.any())
        mean = new.features.mean(new.means, keepdim=True).expand_as(new.features)
        parts.append([
            old.rows(old.weight, old.bias, old.features, units) - low,
            new.rows(new.weight, new.bias, new.features, units) - low,
            new.rows(dw, db, old.features, units),
            new.rows(old.weight, None, dh, units),
            new.rows(dw, None, dh, units),
            new.rows(new.weight, None, mean, units),
            new.rows(new.weight.clamp(max=0), None, new.features, units),
        ])  # fmt: skip
    joined = [torch.cat(columns).cpu() for columns in zip(*parts, strict=True)]
    names = ("before", "after", "own", "upstream", "cross", "mean", "negative")
    return Sides(**dict(zip(names, joined, strict=True)), moved=moved)


def _judged(
    inquest: Inquest, path: str, units: NDArray[np.int64], s: Sides, before: list[Use], after: list[Use]
) -> LayerKill:
    """Split, counterfactuals and closed-form factor of some units."""
    top, place = s.before.max(0)
    highest = s.after.max(0).values
    chosen = torch.as_tensor(units)

    def there(values: Tensor) -> Array:
        return np.asarray(values.gather(0, place[None])[0].numpy(), np.float64)

    old, new = before[0].double(), after[0].double()
    bias = torch.zeros(len(units), dtype=torch.float64) if new.bias is None else new.bias[chosen].cpu()
    raised = bias * 0 if new.bias is None or old.bias is None else bias - old.bias[chosen].cpu()
    scale = max(float(s.before.abs().max()), float(s.after.abs().max()), 1e-300)
    residual = float((s.after - s.before - s.own - s.upstream - s.cross).abs().max()) / scale
    alpha = np.where(highest > 0, np.inf, np.nan) if s.moved else _closed(s)
    momentum, decay = shares(inquest, path, before, chosen, place)
    per = max(sum(u.samples for u in before), 1)
    return LayerKill(
        path=path,
        kind=_kind(inquest.model, path),
        units=units,
        units_total=before[0].units,
        samples=per,
        stronghold=_samples(before, len(s.before), place.numpy()),
        before=np.asarray(top.numpy(), np.float64),
        after=there(s.after),
        highest=np.asarray(highest.numpy(), np.float64),
        own=there(s.own),
        own_bias=np.asarray(raised.numpy(), np.float64),
        upstream=there(s.upstream),
        cross=there(s.cross),
        momentum=momentum,
        decay=decay,
        alpha=alpha,
        alpha_low=alpha.copy(),
        alpha_high=alpha.copy(),
        without_own=((s.before + s.upstream) > 0).any(0).numpy(),
        without_upstream=((s.before + s.own) > 0).any(0).numpy(),
        bias=np.asarray(bias.numpy(), np.float64),
        bias_zero=((s.after - bias) > 0).any(0).numpy(),
        bias_raise=np.asarray((-highest).clamp(min=0).numpy(), np.float64),
        centring=_share(s.after, s.mean),
        negative=_share(s.after, s.negative),
        crossing=np.full(len(units), -1, np.int64),
        residual=residual,
        exact=not s.moved,
        outside=any(call.outside for call in inquest.calls),
    )


def _closed(s: Sides) -> Array:
    """Where the line from ``before`` to ``after`` leaves the last sample, shape (K,).

    On the features held fixed s is linear in the size of the step. A sample that fires before the
    step and falls goes out at s0 / (s0 - s1); the unit lives until the last of them is out, and for
    ever if one of them does not fall or another one comes in.

    Returns:
        The part of the step that kills.
    """
    fires = s.before > 0
    falls = s.before - s.after
    out = torch.where(falls > 0, s.before / falls.clamp(min=1e-300), torch.inf)
    last = torch.where(fires, out, 0.0).max(0).values
    return np.asarray(torch.where((s.after > 0).any(0), torch.inf, last).numpy(), np.float64)


def _share(after: Tensor, part: Tensor) -> Array:
    """Smallest share c in [0, 1] with after - c part > 0 somewhere, shape (K,); NaN if there is none."""
    needed = torch.where(part < 0, after / part.clamp(max=-1e-300), torch.inf)
    needed = torch.where(after > 0, 0.0, needed).min(0).values
    return np.asarray(torch.where(needed < 1, needed, torch.nan).numpy(), np.float64)


def _samples(uses: list[Use], rows: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the sample that a row belongs to, counted over all uses."""
    samples = sum(u.samples for u in uses)
    return np.asarray(places // max(rows // max(samples, 1), 1), np.int64)


def _kind(model: Any, path: str) -> str:
    return type(model.get_submodule(path)).__name__
