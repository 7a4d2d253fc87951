"""The largest curvature of a loss whose graph is there: no further pass of the model is made.

The gradient is taken once with a graph of its own, and every product with the Hessian is one backward
through that (Pearlmutter 1994). Lanczos starts at the direction found on the step measured before, with
a small random one added: the direction turns slowly, so that few products do, and the random part finds what
has overtaken it. The user's graph is retained, no ``.grad`` is touched, no global random number is drawn.

Letters: ``P`` parameters, ``H`` ``(P, P)``, ``S`` the optimiser's diagonal, ``v`` a direction ``(P,)``.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from defib.core.sharpness import Declined, Survey, Surveyed
from defib.probe.hessian import stops
from defib.probe.krylov import lanczos
from defib.probe.memory import allowed, plain_size

SMALL = 20_000
"""Parameters up to which products are cheap."""

STEPS_SMALL, STEPS_LARGE = 24, 12
"""Products at most, for each of the two matrices."""

TOLERANCE_SMALL, TOLERANCE_LARGE = 3e-4, 1e-2
"""Residual over the largest eigenvalue at which it counts as known; its error is then about the square."""

FRESH = 0.03
"""Length of the random part that is added to the direction of the measurement before."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A largest eigenvalue: one lies within ``error`` of ``value``, in about that direction."""

    value: float = math.nan
    error: float = math.nan
    along: float = math.nan
    direction: Tensor | None = None

    def times(self, rate: float, decay: float) -> "_Found":
        """Of rate (H + decay) instead of H."""
        value, along = rate * (self.value + decay), rate * (self.along + decay)
        return _Found(value=value, error=rate * self.error, along=along)


def survey(asked: Survey) -> Surveyed:
    """Measures the largest eigenvalue of H, and of S^1/2 H S^1/2.

    Args:
        asked: The loss with its graph, the parameters, and what the optimiser does.

    Returns:
        Both with their residual bounds.

    Raises:
        Declined: If there is no second derivative, no finite one, or too little memory.
    """  # noqa: DOC502 - the parts raise it
    with _plainly(asked.loss.device):
        hessian = _Hessian(asked)
        plain = _largest(hessian, hessian, asked.before[0])
        scaled = _Found()
        if asked.weights is not None:
            rate = _common(asked)
            scaled = plain.times(*rate) if rate is not None else _preconditioned(hessian, asked)
    return Surveyed(
        largest=plain.value,
        largest_error=plain.error,
        product=scaled.value,
        product_error=scaled.error,
        along=scaled.along,
        products=hessian.made,
        gradient=tuple(None if g is None else g.detach() / asked.scale for g in hessian.gradient),
        after=(plain.direction, scaled.direction),
    )


@contextlib.contextmanager
def _plainly(device: torch.device) -> Any:
    """Nothing of ours is recorded by autograd but what is asked for, and nothing is rounded further."""
    with torch.no_grad():
        if torch.is_autocast_enabled(device.type):
            with torch.autocast(device.type, enabled=False):
                yield
        else:
            yield


class _Hessian:
    """H v by one backward through the graph of the gradient.

    Attributes:
        made: Products made.
        count: P.
        kind: Number format of directions.
        device: Where they are.
        steps: Products at most.
        tolerance: When an eigenvalue counts as known.
        gradient: The gradient with its graph, of the loss as it was scaled.
    """

    def __init__(self, asked: Survey) -> None:
        self.made = 0
        self.count = sum(leaf.numel() for leaf in asked.leaves)
        self.kind = reduce(torch.promote_types, (leaf.dtype for leaf in asked.leaves), torch.float32)
        self.device = asked.loss.device
        small = self.count <= SMALL
        self.steps = STEPS_SMALL if small else STEPS_LARGE
        self.tolerance = TOLERANCE_SMALL if small else TOLERANCE_LARGE
        self._leaves, self._factor = asked.leaves, asked.sign / asked.scale
        vector = self.count * torch.finfo(self.kind).bits // 8
        # About three times what the graph keeps, the basis, and twelve vectors beside it.
        need, free = 3 * asked.saved + (self.steps + 12) * vector, allowed(self.device)
        if need > free:
            raise Declined(f"it needs about {plain_size(need)} of memory, {plain_size(free)} may be used")
        self.gradient = _derived(asked.loss, asked.leaves, create_graph=True)
        known = [g for g in self.gradient if g is not None]
        if not known:
            raise Declined("the loss does not reach the optimiser's parameters")
        if any(g.layout is not torch.strided for g in known):
            raise Declined("a sparse gradient has no second derivative")
        if not all(bool(torch.isfinite(g).all()) for g in known):
            raise Declined("the gradient is not finite")
        if stops(self.gradient):
            raise Declined("an operation can be differentiated only once (fused attention, some losses)")

    def __call__(self, v: Tensor) -> Tensor:
        self.made += 1
        sizes = [leaf.numel() for leaf in self._leaves]
        parts = [p.view(f.shape) for p, f in zip(torch.split(v, sizes), self._leaves, strict=True)]
        both = zip(self.gradient, parts, strict=True)
        pairs = [(g, p) for g, p in both if g is not None and g.requires_grad]
        if not pairs:
            return torch.zeros_like(v)
        found = _derived([g for g, _ in pairs], self._leaves, along=[p.to(g.dtype) for g, p in pairs])
        image = self.vector([0.0 if f is None else f for f in found]) * self._factor
        if not bool(torch.isfinite(image.norm())):  # a product may be finite, and its square not
            raise Declined("the second derivative is not finite")
        return image

    def vector(self, values: "list[Tensor | float]") -> Tensor:
        """One number for each entry, from a number or a tensor for each leaf, ``(P,)``."""
        pieces = []
        for leaf, value in zip(self._leaves, values, strict=True):
            if isinstance(value, Tensor):
                pieces.append(value.detach().to(self.device, self.kind).reshape(-1))
            else:
                pieces.append(torch.full((leaf.numel(),), value, dtype=self.kind, device=self.device))
        return torch.cat(pieces)


def _derived(of: Any, leaves: Any, *, along: Any = None, create_graph: bool = False) -> tuple[Any, ...]:
    """Derives by the leaves, the graph retained.

    Returns:
        One gradient for each leaf, None where there is none.

    Raises:
        Declined: If autograd cannot.
    """
    try:
        found = torch.autograd.grad(
            of, leaves, along, retain_graph=True, create_graph=create_graph, allow_unused=True
        )
    except (RuntimeError, NotImplementedError) as error:
        raise Declined(f"no second derivative: {str(error).splitlines()[0][:200]}") from None
    return tuple(found)


def _largest(product: Callable[[Tensor], Tensor], space: _Hessian, before: Tensor | None) -> _Found:
    """Largest eigenvalue of a symmetric matrix on the space of the parameters."""
    generator = torch.Generator().manual_seed(1 + space.made)  # Lanczos has the seed 0 itself
    start = torch.randn(space.count, generator=generator, dtype=space.kind, device="cpu").to(space.device)
    start = start / start.norm()
    warm = before is not None and before.shape == start.shape and before.device == start.device
    if warm:
        start = FRESH * start + before
        start = start / start.norm()
    ritz = lanczos(product, start, space.steps, space.tolerance, highest=True)
    # Row 0 of the vectors: the start in terms of the Ritz vectors, for T[0, 0] = start . A start.
    along = float((ritz.values * ritz.vectors[0] ** 2).sum()) if warm else math.nan
    value, error = float(ritz.values[-1]), float(ritz.residuals[-1])
    return _Found(value=value, error=error, along=along, direction=ritz.vector(-1))


def _common(asked: Survey) -> tuple[float, float] | None:
    """Rate and decay where they are the same for all entries; None where they are not."""
    rates, decays = set(asked.weights or ()), set(asked.decay)
    if len(decays) > 1 or any(isinstance(rate, Tensor) for rate in rates) or len(rates) != 1:
        return None
    return float(rates.pop()), decays.pop()


def _preconditioned(hessian: _Hessian, asked: Survey) -> _Found:
    """Largest eigenvalue of S^1/2 (H + decay) S^1/2, which are those of S (H + decay)."""
    diagonal = hessian.vector(list(asked.weights or ()))
    if not bool(torch.isfinite(diagonal).all()):
        raise Declined("the optimiser's own sizes of the gradient are not finite")
    root, decay = diagonal.sqrt(), hessian.vector(list(asked.decay))

    def product(v: Tensor) -> Tensor:
        inner = root * v
        image: Tensor = root * (hessian(inner) + decay * inner)
        return image

    return _largest(product, hessian, asked.before[1])
