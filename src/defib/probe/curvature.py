"""Curvature of the mean loss: Hessian-vector products, null directions, extreme eigenvalues.

H v is one more backward pass through the gradient's own graph (Pearlmutter 1994), about two
gradients of work. Where a kernel has no second derivative (flash attention) the plain attention
kernel is tried, then central differences of the gradient. Curvature is that of the linear region
in which the parameters lie; what lies behind a kink it does not see.

Letters: ``P`` parameters that require a gradient, ``H`` ``(P, P)``, ``v`` a direction ``(P,)``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from defib.core.errors import UsageError
from defib.core.triage import Curvature
from defib.probe.batch import Loss, pieces, prepared
from defib.probe.hessian import DIFFERENCES, Hessian
from defib.probe.krylov import PROBABILITY, Ritz, lanczos
from defib.probe.memory import fitting
from defib.probe.objective import Objective, wider
from defib.probe.state import untouched

SMALL = 20_000
"""Parameters up to which many steps are cheap, and float64 with them."""
STEPS_SMALL = 200
STEPS_LARGE = 20
"""With the one for null directions 21 products of about two gradients: under 60 gradients of work."""


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
