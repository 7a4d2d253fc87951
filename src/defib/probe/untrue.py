"""Whether a hand-written backward is the derivative of its forward.

For f with inputs x and a random v, the backward gives g = J'(x)^T v as it claims. Central
differences along random directions u in float64, at a point moved off every kink, give the true
<v, J u>. Over K normal directions u, sum <g,u><g*,u> estimates <g,g*>, and so the cosine between
the claimed and the true gradient; it is exact where the two are parallel, and within about
1 / sqrt(K) elsewhere.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from defib.probe.calls import Custom

DIRECTIONS = 256
_STEP = 1e-6
_SHIFT = 1e-3
_MOST_ENTRIES = 65_536


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """What came of the comparison.

    Attributes:
        name: Class of the function.
        where: File and line of its use.
        cosine: Between claimed and true gradient; NaN if one of them is zero.
        scale: Size of the claimed gradient over that of the true one; inf if the true one is zero.
        identity: The forward gives back its input.
        directions: How many directions were compared.
        untested: Why nothing could be said; "" if it could.
    """

    name: str
    where: str
    cosine: float = math.nan
    scale: float = math.nan
    identity: bool = False
    directions: int = DIRECTIONS
    untested: str = ""


def alignment(custom: Custom) -> Alignment:
    """Compare a function's backward with finite differences; draws from a generator of its own."""
    name = custom.function.__name__
    try:
        return _compared(custom, name)
    except Exception as error:  # noqa: BLE001 - somebody's code in a dtype it may not know
        why = f"it cannot be run in float64: {type(error).__name__}: {error}".splitlines()[0]
        return Alignment(name=name, where=custom.where, untested=why[:160])


def _compared(custom: Custom, name: str) -> Alignment:
    generator = torch.Generator().manual_seed(0)
    points = [_off_kink(a, generator) if isinstance(a, Tensor) else a for a in custom.arguments]
    inputs = [p for p in points if isinstance(p, Tensor) and p.requires_grad]
    if sum(p.numel() for p in inputs) > _MOST_ENTRIES:
        return Alignment(name=name, where=custom.where, untested="more than 65,536 entries at a time")
    if not inputs:
        return Alignment(name=name, where=custom.where, untested="no floating-point input")
    with torch.enable_grad():
        outputs = _outputs(_applied(custom, *points))
    if not outputs:
        return Alignment(name=name, where=custom.where, untested="no output carries a gradient")
    if not _repeats(custom, points, outputs):
        return Alignment(name=name, where=custom.where, untested="it is not deterministic")
    cotangents = [_normal(o, generator) for o in outputs]
    with torch.enable_grad():
        total = sum((o * v).sum() for o, v in zip(outputs, cotangents, strict=True))
        assert isinstance(total, Tensor)
        grads = torch.autograd.grad(total, inputs, allow_unused=True, retain_graph=True)
    claimed, true = [], []
    for _ in range(DIRECTIONS):
        ways = [_normal(p, generator) for p in inputs]
        pairs = zip(grads, ways, strict=True)
        claimed.append(math.fsum(float((g * u).sum()) for g, u in pairs if g is not None))
        true.append(_difference(custom, points, inputs, ways, cotangents))
    first = inputs[0]
    same = outputs[0].shape == first.shape and torch.equal(outputs[0], first)
    return _judged(name, custom.where, torch.tensor(claimed), torch.tensor(true), same)


def _judged(name: str, place: str, claimed: Tensor, true: Tensor, identity: bool) -> Alignment:
    """Cosine and scale of two sets of directional derivatives."""
    a, b = float(claimed.double().norm()), float(true.double().norm())
    if b <= 1e-7 * max(a, 1e-30):
        return Alignment(name=name, where=place, scale=math.inf if a > 0 else math.nan, identity=identity)
    cosine = float((claimed.double() @ true.double()) / (a * b)) if a > 0 else math.nan
    return Alignment(name=name, where=place, cosine=cosine, scale=a / b, identity=identity)


def _difference(
    custom: Custom, points: list[Any], inputs: list[Tensor], ways: list[Tensor], cotangents: list[Tensor]
) -> float:
    """<v, J u> by a central difference."""
    moves = {id(p): u for p, u in zip(inputs, ways, strict=True)}
    values = []
    for sign in (1.0, -1.0):
        moved = [p.detach() + sign * _STEP * moves[id(p)] if id(p) in moves else _copied(p) for p in points]
        with torch.no_grad():
            outputs = _tensors(_applied(custom, *moved))
        values.append(math.fsum(float((o * v).sum()) for o, v in zip(outputs, cotangents, strict=False)))
    return (values[0] - values[1]) / (2 * _STEP)


def _off_kink(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """A copy in float64, every entry moved by about a thousandth of the tensor's size."""
    copy = tensor.detach().cpu()
    if not copy.is_floating_point():
        return copy
    copy = copy.double()
    if tensor.requires_grad:
        size = float(copy.square().mean().sqrt()) or 1.0
        copy = copy + _SHIFT * size * _normal(copy, generator)
    return copy.requires_grad_(tensor.requires_grad)


def _repeats(custom: Custom, points: list[Any], outputs: list[Tensor]) -> bool:
    """Whether a second run gives the same bits."""
    with torch.enable_grad():
        again = _outputs(_applied(custom, *points))
    return all(torch.equal(a, b) for a, b in zip(outputs, again, strict=True))


def _applied(custom: Custom, *arguments: Any) -> Any:
    """The function itself; torch leaves ``apply`` without types."""
    return custom.function.apply(*arguments)  # type: ignore[no-untyped-call]


def _copied(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _tensors(result: Any) -> list[Tensor]:
    several = result if isinstance(result, (tuple, list)) else (result,)
    return [t for t in several if isinstance(t, Tensor) and t.is_floating_point()]


def _outputs(result: Any) -> list[Tensor]:
    return [t for t in _tensors(result) if t.requires_grad]


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=torch.float64)
