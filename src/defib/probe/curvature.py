"""Curvature of the mean loss: Hessian-vector products, null directions, extreme eigenvalues.

H v is one more backward pass through the gradient's own graph (Pearlmutter 1994), about two
gradients of work. Where a kernel has no second derivative (flash attention) the plain attention
kernel is tried, then central differences of the gradient. Curvature is that of the linear region
in which the parameters lie; what lies behind a kink it does not see.

Letters: ``P`` parameters that require a gradient, ``H`` ``(P, P)``, ``v`` a direction ``(P,)``.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from defib.core.errors import UsageError
from defib.core.triage import Curvature
from defib.probe.krylov import PROBABILITY, Ritz, lanczos
from defib.probe.memory import fitting
from defib.probe.objective import Loss, Objective, pieces, prepared, wider
from defib.probe.state import untouched
from defib.torchgraph.nodes import collect

SMALL = 20_000
"""Parameters up to which many steps are cheap, and float64 with them."""
STEPS_SMALL = 200
STEPS_LARGE = 20
"""With the one for null directions 21 products of about two gradients: under 60 gradients of work."""


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
                    if not _stops(graph[1]):
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


def _stops(first: Sequence[Tensor | None]) -> bool:
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


@dataclass(frozen=True, kw_only=True)
class Nulls:
    """Entries whose whole row of H is zero.

    Attributes:
        active: True where it is not, ``(P,)``.
        units: Rows of weight tensors that are null, with their bias.
        inputs: Columns of weight tensors that are null in rows that are not.
        biases: Biases that are null while their unit is not.
    """

    active: Tensor
    units: int
    inputs: int
    biases: int


def nulls(hessian: Hessian, generator: torch.Generator) -> Nulls:
    """Finds structurally null rows with one product.

    A row of H is zero if and only if its entry of H v is zero for almost every v; v is random.
    For a dead unit (weights, bias, outgoing column) and a dead input the zeros are exact: every term
    of the product has a factor that is exactly 0. A bias before a normalisation is zero to rounding
    only, and counts below 64 eps of the largest entry of |H v|.

    Returns:
        Which entries are active, and what the others are.
    """
    theta = hessian.objective.theta
    v = torch.randn(theta.numel(), generator=generator, dtype=torch.float64).to(theta)
    seen = hessian(v).abs()
    tiny = 64 * torch.finfo(theta.dtype).eps * float(seen.max())
    exact = hessian.method != DIFFERENCES
    active = seen > (0 if exact else tiny)
    units = inputs = biases = 0
    rows: dict[str, Tensor] = {}
    parts = hessian.objective.by_name(active)
    for name, part in parts.items():
        if part.ndim > 1:
            whole = part.reshape(part.shape[0], -1).any(1)
            rows[name.rpartition(".")[0]] = whole
            units += int((~whole).sum())
            columns = part.transpose(0, 1).reshape(part.shape[1], -1).any(1)
            inputs += int((~columns).sum()) if bool(whole.any()) else 0
    sizes = hessian.objective.by_name(seen)
    for name, part in parts.items():
        owner = rows.get(name.rpartition(".")[0])
        if part.ndim == 1 and owner is not None and owner.shape == part.shape:
            small = sizes[name] <= tiny
            biases += int((small & owner).sum())
            part.logical_and_(~small)
    active = torch.cat([p.reshape(-1) for p in parts.values()])
    return Nulls(active=active, units=units, inputs=inputs, biases=biases)


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Extreme eigenvalues with their vectors.

    Attributes:
        curvature: The numbers.
        lowest: Unit Ritz vector of the smallest, ``(P,)``, zero outside of the active entries.
        without_positive: Takes the parts along clearly positive curvature out of a vector ``(P,)``.
    """

    curvature: Curvature
    lowest: Tensor
    without_positive: Callable[[Tensor], Tensor]


def spectrum(
    objective: Objective,
    *,
    steps: int | None = None,
    memory: float | None = None,
    seed: int = 0,
    tolerance: float = 1e-3,
) -> Spectrum:
    """Smallest and largest eigenvalue of the Hessian on the active entries.

    Args:
        objective: The mean loss.
        steps: Lanczos steps at most; None for 200 up to 20,000 parameters, else 20.
        memory: Bytes that may be used; None for half of what is free.
        seed: Of the random start.
        tolerance: As :func:`defib.probe.krylov.lanczos` takes it.

    Returns:
        The eigenvalues with residual bounds.

    Raises:
        UsageError: If the memory does not suffice for eight steps; nothing was computed then.
    """
    if not objective.count:
        raise UsageError("the model has no parameter that requires a gradient")
    wanted = steps or (STEPS_SMALL if objective.count <= SMALL else STEPS_LARGE)
    wanted = fitting(objective, min(wanted, objective.count), memory)
    generator = torch.Generator().manual_seed(seed)
    hessian = Hessian(objective)
    null = nulls(hessian, generator)
    if not bool(null.active.any()):
        flat = torch.zeros_like(objective.theta)
        return Spectrum(curvature=_told(hessian, null, None), lowest=flat, without_positive=lambda v: v)
    space = _Active(null.active, few=objective.count <= SMALL)
    start = torch.randn(objective.count, generator=generator, dtype=torch.float64).to(objective.theta)
    ritz = lanczos(lambda v: space.taken(hessian(space.put(v))), space.taken(start), wanted, tolerance)

    def clean(vector: Tensor) -> Tensor:
        inside = space.taken(vector)
        return vector + space.put(ritz.without_positive(inside) - inside)

    return Spectrum(
        curvature=_told(hessian, null, ritz), lowest=space.put(ritz.vector(0)), without_positive=clean
    )


class _Active:
    """The active entries as a space of their own, or as a mask where gathering would cost too much."""

    def __init__(self, active: Tensor, *, few: bool) -> None:
        self._active = active
        gathers = few or int(active.sum()) < len(active) // 2
        self._places = active.nonzero().squeeze(1) if gathers else None
        self._every = bool(active.all())

    def taken(self, vector: Tensor) -> Tensor:
        """A vector ``(P,)`` without its null entries."""
        if self._every:
            return vector
        return vector * self._active if self._places is None else vector[self._places]

    def put(self, vector: Tensor) -> Tensor:
        """The same back among zeros, ``(P,)``."""
        if self._places is None or self._every:
            return vector
        whole = torch.zeros(len(self._active), dtype=vector.dtype, device=vector.device)
        whole[self._places] = vector
        return whole


def _told(hessian: Hessian, null: Nulls, ritz: Ritz | None) -> Curvature:
    low, high = (0, -1) if ritz is not None else (0, 0)
    values = [0.0] if ritz is None else ritz.values
    bounds = [0.0] if ritz is None else ritz.residuals
    return Curvature(
        lambda_min=float(values[low]),
        lambda_min_bound=float(bounds[low]),
        lambda_max=float(values[high]),
        lambda_max_bound=float(bounds[high]),
        floor=0.0 if ritz is None else ritz.floor(),
        probability=1.0 if ritz is None or ritz.exhausted else PROBABILITY,
        steps=0 if ritz is None else len(ritz.values),
        products=hessian.products,
        method=hessian.method,
        precision=str(hessian.objective.theta.dtype).removeprefix("torch."),
        parameters=hessian.objective.count,
        active=int(null.active.sum()),
        null_units=null.units,
        null_inputs=null.inputs,
        null_biases=null.biases,
    )


def lambda_max(
    model: nn.Module,
    data: object,
    loss: Loss | None = None,
    *,
    steps: int | None = None,
    memory: float | None = None,
    batches: int = 8,
) -> Curvature:
    """Curvature of a loss at a model's parameters: gradient descent is stable below lr = 2 / lambda_max.

    Nothing is changed by a bit.

    Args:
        model: In the mode in which it is trained.
        data: A batch, or several (see :func:`defib.probe.objective.pieces`).
        loss: As in ``defib check``.
        steps: Lanczos steps at most.
        memory: Bytes that may be used; None for half of what is free.
        batches: How many batches of several are taken.

    Returns:
        ``lambda_max`` with its residual bound, ``lambda_min`` beside it.

    Raises:
        UsageError: If the memory does not suffice, or the model or the loss raises.
    """
    model = prepared(model)
    roots: Sequence[nn.Module] = (model, loss) if isinstance(loss, nn.Module) else (model,)
    with untouched(*roots), torch.enable_grad():
        objective = Objective(model, pieces(data, batches), loss)
        if objective.count <= SMALL:
            objective, _ = wider(objective)
        found = spectrum(objective, steps=steps, memory=memory).curvature
    if not math.isfinite(found.lambda_max):
        raise UsageError("the loss has no finite curvature here")
    return found
