"""Products with the Hessian of the mean loss, by whichever way its operations allow.

Letters: ``P`` parameters that require a gradient, ``H`` ``(P, P)``, ``v`` a direction ``(P,)``.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from defib.probe.objective import Objective
from defib.torchgraph.nodes import collect


class Hessian:
    """Products with the Hessian of an objective at its own parameters.

    Attributes:
        objective: The mean loss.
        method: How products are made, in words.
        products: How many were made.
    """

    def __init__(self, objective: Objective, method: str | None = None) -> None:
        self.objective, self.products = objective, 0
        self._graph: tuple[list[Tensor], list[Tensor | None]] | None = None
        self.method = method or self._chosen()

    def __call__(self, v: Tensor) -> Tensor:
        """H v."""
        self.products += 1
        if self.method == DIFFERENCES:
            return self._difference(v)
        with _kernels(self.method):
            if len(self.objective.pieces) == 1:
                # One graph serves all products; several batches would keep several graphs alive.
                self._graph = self._graph or self._first(self.objective)
                return self._second(self._graph, v)
            total: Tensor = torch.zeros_like(v)
            for weight, piece in self.objective.weighted():
                total = total + weight * self._second(self._first(self.objective.with_pieces([piece])), v)
            return total

    def _chosen(self) -> str:
        """The first way that works, tried on one sample's worth of a product."""
        chosen = self.objective.pieces[0]
        few = self.objective.with_pieces([chosen.part(0, min(2, chosen.samples))])
        for sized in (few, self.objective):  # a batch norm in training mode may not take two samples
            for method in (DOUBLE, PLAIN):
                with contextlib.suppress(RuntimeError, NotImplementedError, ValueError), _kernels(method):
                    graph = self._first(sized)
                    self._second(graph, torch.ones_like(self.objective.theta))
                    if not stops(graph[1]):
                        return method
        return DIFFERENCES

    def _first(self, objective: Objective) -> tuple[list[Tensor], list[Tensor | None]]:
        """Leaves, and the gradient with its graph."""
        leaves = objective.leaves()
        value = objective.call(leaves, objective.pieces[0])[1]
        return leaves, list(objective.back(value, leaves, graph=True))

    def _second(self, graph: tuple[list[Tensor], list[Tensor | None]], v: Tensor) -> Tensor:
        leaves, first = graph
        parts = self.objective.tensors(v)
        pairs = [(g, p) for g, p in zip(first, parts, strict=True) if g is not None and g.requires_grad]
        if not pairs:
            return torch.zeros_like(v)
        found = torch.autograd.grad(
            [g for g, _ in pairs], leaves, [p for _, p in pairs], retain_graph=True, allow_unused=True
        )
        return self.objective.joined(leaves, found)

    def _difference(self, v: Tensor) -> Tensor:
        """(g(theta + e v) - g(theta - e v)) / 2 e, exact to e^2 within a linear region."""
        here = self.objective.theta
        length = float(v.norm())
        if not length:
            return torch.zeros_like(v)
        step = torch.finfo(here.dtype).eps ** (1 / 3) * (1 + float(here.norm())) / length
        ahead, behind = self.objective.gradient(here + step * v), self.objective.gradient(here - step * v)
        found: Tensor = (ahead - behind) / (2 * step)
        return found


DOUBLE = "double backward"
PLAIN = "double backward, plain attention"
DIFFERENCES = "finite differences"


def stops(first: Sequence[Tensor | None]) -> bool:
    """Whether the gradient's graph ends in a node that only raises."""
    # An operation that can be differentiated once leaves such a node, and autograd never runs it when
    # it is asked for the gradients of leaves that lie behind: the second derivative would be missing
    # silently.
    roots = [g.grad_fn for g in first if g is not None and g.grad_fn is not None]
    return any(n.name().endswith(("autograd::Error", "NotImplemented")) for n in collect(roots))


def _kernels(method: str) -> contextlib.AbstractContextManager[Any]:
    """The attention kernels for a method: only the plain one can be differentiated twice."""
    if method != PLAIN:
        return contextlib.nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)
