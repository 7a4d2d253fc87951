"""Attention in the autograd graph, and its gradient parted by query, key and value.

With y = softmax(q k^T) v every way from y back to x, on which q, k and v all depend, leads through
exactly one of the three. So the gradients that leave the attention by its three inputs are sent on
to x one at a time, and add up to the whole: g_x = g_q + g_k + g_v, and what comes around all three.

Letters: ``B`` batch (and heads), ``L`` queries, ``S`` keys, ``d`` width of a head.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from defib.core.checkup import Attention
from defib.probe.graph import Graph
from defib.probe.sizes import Slots, inner, norm, real, total
from defib.torchgraph.nodes import FUSED_ATTENTION, SOFTMAXES, Node, saved_tensor

_PRODUCTS = {"BmmBackward0": 0, "MmBackward0": 0, "BaddbmmBackward0": 1}
"""Products of two matrices: which edge leads to the first factor."""
_BIASES = {"AddBackward0", "SubBackward0", "MulBackward0"}
"""Positions and temperatures that are learnt leave an attention an attention."""
_MOST_STEPS = 64
_MOST_MAPS = 64
"""Attention maps (batch times heads) whose entropy is taken."""
EXACT = 1e-3
"""Up to this share of |g_x| the parts may miss: rounding of half precision; more is another way."""


def is_product(node: Node) -> bool:
    """Whether it multiplies two signals as matrices, softly or not: nothing goes around it."""
    name = node.name()
    return name in _PRODUCTS or FUSED_ATTENTION in name


@dataclass(frozen=True, kw_only=True, eq=False)
class Core:
    """One softmax attention.

    Attributes:
        edges: For "query", "key" and "value" the node that takes it and the edge's index there.
        softmax: The node that keeps the attention map; None within a fused one.
        out: The node whose output it gives.
    """

    edges: dict[str, tuple[Node, int]]
    softmax: Node | None
    out: Node

    @property
    def nodes(self) -> set[Node]:
        """The nodes that it is known by."""
        return {self.out, *(node for node, _ in self.edges.values())}


def cores(graph: Graph) -> list[Core]:
    """Every softmax attention in a graph, fused or written out."""
    found = []
    for node in graph.nodes:
        if FUSED_ATTENTION in node.name():
            edges = {name: (node, i) for i, name in enumerate(("query", "key", "value"))}
            found.append(Core(edges=edges, softmax=None, out=node))
        elif node.name() in SOFTMAXES and (core := _written_out(graph, node)) is not None:
            found.append(core)
    return found


def _written_out(graph: Graph, softmax: Node) -> Core | None:
    """The products on both sides of a softmax; None if there is not exactly one on each."""
    above = _products(graph, softmax, up=True)
    below = _products(graph, softmax, up=False)
    if len(above) != 1 or len(below) != 1:
        return None
    (out, came), (scores, _) = above[0], below[0]
    first, score = _PRODUCTS[out.name()], _PRODUCTS[scores.name()]
    value = first + 1 if came == first else first
    edges = {"query": (scores, score), "key": (scores, score + 1), "value": (out, value)}
    return Core(edges=edges, softmax=softmax, out=out)


def _products(graph: Graph, start: Node, *, up: bool) -> list[tuple[Node, int]]:
    """The nearest products of two signals above or below a node, each with the edge that led there."""
    found: list[tuple[Node, int]] = []
    seen, stack = {start}, [start]
    while stack and len(seen) < _MOST_STEPS:
        around = graph.parents if up else graph.children
        for node, index in around[stack.pop()]:
            if node in seen:
                continue
            seen.add(node)
            if node.name() in _PRODUCTS and not graph.owned[node]:
                found.append((node, index))
            elif not graph.is_producer(node) or node.name() in _BIASES:
                stack.append(node)
    return found


@dataclass(eq=False)
class Split:
    """One attention between two stations, and the gradients that leave it."""

    core: Core
    bottom: Node
    sent: dict[str, Slots] = field(default_factory=dict)

    def parts(self) -> dict[str, Slots]:
        """The gradient at ``bottom`` that came by each of the three, by backward passes of their own.

        The graph must have been kept, and nobody may be listening any more.

        Returns:
            For "query", "key" and "value" the gradient by output number; empty where none arrived.
        """
        return {name: self._arrived(name, grads) for name, grads in self.sent.items()}

    def _arrived(self, name: str, grads: Slots) -> Slots:
        node, index = self.core.edges[name]
        child, slot = node.next_functions[index]
        if child is None or not grads:
            return {}
        if child is self.bottom:
            return {slot: real(grads[0])}
        outputs = len(self.bottom._input_metadata)
        ends = [GradientEdge(self.bottom, i) for i in range(outputs)]
        arrived = torch.autograd.grad(
            [GradientEdge(child, slot)], ends, [grads[0]], retain_graph=True, allow_unused=True
        )
        return {i: real(g) for i, g in enumerate(arrived) if g is not None}


def shares(parts: dict[str, Slots], around: Slots, whole: Slots, unit: float) -> Attention | None:
    """Squared norms of the parts in units of ``unit`` squared.

    Args:
        parts: What came by query, key and value.
        around: What came around them.
        whole: All that arrived.
        unit: Norm of the gradient where the stretch begins.

    Returns:
        The shares; None if the parts do not add up to the whole.
    """
    each = [*(parts.get(n, {}) for n in ("query", "key", "value")), around]
    missing = total(whole, *({k: -v for k, v in part.items()} for part in each))
    if not norm(*missing.values()) <= EXACT * norm(*whole.values()) or not unit > 0:
        return None
    squares = [norm(*part.values()) ** 2 / unit**2 for part in each]
    pairs = [(a, b) for i, a in enumerate(each) for b in each[:i]]
    cross = 2 * math.fsum(inner(a, b) for a, b in pairs) / unit**2
    query, key, value, beside = squares
    return Attention(query=query, key=key, value=value, around=beside, cross=cross)


def attention_map(core: Core) -> Tensor | None:
    """Rows of the attention map, shape (B, L, S), for at most ``_MOST_MAPS`` of B; None if not to be had."""
    if core.softmax is None:
        return _recomputed(core.out)
    kept = saved_tensor(core.softmax, "result")
    if (
        kept is None
        or kept.ndim < 2
        or int(core.softmax._saved_dim) % 2**64 not in {kept.ndim - 1, 2**64 - 1}
    ):
        return None
    return kept.reshape(-1, *kept.shape[-2:])[:_MOST_MAPS].double()


def _recomputed(fused: Node) -> Tensor | None:
    """The map that a fused attention does not keep, from the queries and keys that it does."""
    query, key = saved_tensor(fused, "query"), saved_tensor(fused, "key")
    if query is None or key is None or query.ndim != 4 or query.shape[1] != key.shape[1]:
        return None
    maps = max(_MOST_MAPS // query.shape[1], 1)
    q, k = query[:maps].double(), key[:maps].double()
    scale = getattr(fused, "_saved_scale", None)
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if getattr(fused, "_saved_is_causal", False):
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(hidden, -math.inf)
    mask = next((m for n in ("attn_mask", "attn_bias") if (m := saved_tensor(fused, n)) is not None), None)
    if mask is not None:
        mask = mask[:maps] if mask.ndim == 4 and mask.shape[0] > 1 else mask
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype is torch.bool else scores + mask
    rows: Tensor = scores.softmax(-1).flatten(0, 1)
    return rows


def sharpness(rows: Tensor) -> tuple[float, float, float]:
    """How even the rows of an attention map are.

    Args:
        rows: The map, shape (B, L, S); rows that are no numbers (all masked) are left out.

    Returns:
        Mean entropy, entropy of even weights over the keys that are not masked, and mean 1 - sum p^2.
    """
    p = rows.flatten(0, -2)
    p = p[torch.isfinite(p).all(-1)]
    if not len(p):
        return math.nan, math.nan, math.nan
    entropy = -torch.xlogy(p, p).sum(-1)
    allowed = (p > 0).sum(-1).double().log()
    return float(entropy.mean()), float(allowed.mean()), float((1 - p.square().sum(-1)).mean())
