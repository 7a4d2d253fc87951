"""Per-unit reductions on the device that holds the tensor; nothing here waits for that device.

Letters: ``N`` batch, ``U`` units, ``L`` positions, ``M`` = N x L entries a unit.

On a CPU a tensor is read in tiles that stay in the cache while all passes go
over them, and masks are floats in one reused buffer, for those vectorise. This
is 3 to 15 times faster than ``count_nonzero``, ``vector_norm``, ``var_mean`` or
``aminmax`` along a dimension (pytorch#40570).
"""

import math
from collections.abc import Callable

import torch

from defib.core.activation import Limits
from defib.core.tally import Tally

STATISTICS = Tally.rows()

_TILE = 1 << 17
"""Entries of a tile for each thread: the tile and its mask, 1 MB, stay in a core's cache."""

_LONG = 48
"""Positions from which a row is summed by itself."""


_Bound = tuple[str, float]
"""A comparison: "low" for <=, "high" for >=, and with what."""

_NOT_POSITIVE: _Bound = ("low", 0.0)
_COMPARE: dict[str, Callable[..., torch.Tensor]] = {"low": torch.le, "high": torch.ge}


def by_unit(tensor: torch.Tensor, axis: int | None) -> torch.Tensor:
    """A view or copy of shape (N, U, L) with the unit axis in the middle; U = 1 where ``axis`` is None."""
    if axis is None:
        return tensor.reshape(tensor.shape[0] if tensor.ndim else 1, 1, -1)
    axis %= tensor.ndim
    if axis == tensor.ndim - 1:
        return tensor.reshape(-1, tensor.shape[-1], 1)
    if axis == 0:
        return tensor.reshape(1, tensor.shape[0], -1)
    return tensor.flatten(0, axis - 1).flatten(2)


def _by(reduce: Callable[..., torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Reduce over N and L; ``x`` of shape (N, U, L), contiguous; shape (U,)."""
    n, units, length = x.shape
    if length == 1:
        return reduce(x.view(n, units), 0)
    if length < _LONG:  # short rows: down the columns first
        return reduce(reduce(x.view(n, units * length), 0).view(units, length), 1)
    inner = reduce(x.view(n * units, length), 1)
    return inner if n == 1 else reduce(inner.view(n, units), 0)


def tally(
    tensor: torch.Tensor,
    axis: int | None,
    flat: Limits | None = None,
    saturated: Limits | None = None,
) -> torch.Tensor:
    """Per-unit statistics of one tensor, in the order of ``Tally.rows()``.

    Args:
        tensor: Floating point, detached, any shape; read only.
        axis: The unit axis, or None to take all entries as one unit.
        flat: Where the activation's derivative is exactly 0; None if no derivative applies.
        saturated: Where it is below 1 % of its largest; None likewise.

    Returns:
        Shape (10, U), float64, on the tensor's device.
    """
    x = by_unit(tensor, axis)
    if x.dtype not in {torch.float32, torch.float64}:
        x = x.float()
    x = x.contiguous()
    if tensor.device.type == "cpu":
        fast = _tally_tiled(x, flat, saturated)
        if fast is not None:
            return fast
    return _tally_exact(x, flat, saturated)


def _tally_tiled(x: torch.Tensor, flat: Limits | None, saturated: Limits | None) -> torch.Tensor | None:
    """As :func:`tally` for finite entries, in tiles; None if there are others, or a square overflows."""
    n, units, length = x.shape
    bounds = [*_bounds(flat), *_bounds(saturated)]
    # x <= 0 is what is left by x > 0, and saturated is often the same as flat: no pass for those.
    passes = [bound for bound in dict.fromkeys(bounds) if bound != _NOT_POSITIVE]
    rows = max(1, _TILE * torch.get_num_threads() // max(1, units * length))
    buffer = torch.empty_like(x[:rows])
    parts = [_tile(x[i : i + rows], buffer[: n - i], passes) for i in range(0, n, rows)]
    sums = parts[0] if len(parts) == 1 else _merged(torch.stack(parts))
    low, high, squares, total, positive, zero, *outside = sums.double().unbind()
    if not math.isfinite(float(squares.sum())):
        return None
    count, none = torch.full_like(squares, n * length), torch.zeros_like(squares)
    counts = dict(zip(passes, outside, strict=True)) | {_NOT_POSITIVE: count - positive}
    values = {
        "count": count,
        "positive": positive,
        "zero": zero,
        "saturated": sum((counts[b] for b in _bounds(saturated)), none),
        "flat": sum((counts[b] for b in _bounds(flat)), none),
        "nonfinite": none,
        "total": total,
        "squares": squares,
        "low": low,
        "high": high,
    }
    return torch.stack([values[name] for name in STATISTICS])


def _tile(x: torch.Tensor, buffer: torch.Tensor, passes: list[_Bound]) -> torch.Tensor:
    """All passes over one tile; low, high and the sums, shape (6 + passes, U)."""
    return torch.stack([
        _by(torch.amin, x),
        _by(torch.amax, x),
        _by(torch.sum, torch.mul(x, x, out=buffer)),
        _by(torch.sum, x),
        _by(torch.sum, torch.gt(x, 0, out=buffer)),
        _by(torch.sum, torch.eq(x, 0, out=buffer)),
        *(_by(torch.sum, _COMPARE[side](x, limit, out=buffer)) for side, limit in passes),
    ])  # fmt: skip


def _merged(parts: torch.Tensor) -> torch.Tensor:
    """What several tiles say together, ``parts`` of shape (tiles, 6 + passes, U)."""
    sums = parts[:, 2:].sum(0, dtype=torch.float64)
    low, high = parts[:, 0].amin(0).double(), parts[:, 1].amax(0).double()
    return torch.cat([torch.stack([low, high]), sums])


def _bounds(limits: Limits | None) -> list[_Bound]:
    """The comparisons that limits ask for."""
    if limits is None:
        return []
    sides = (("low", limits.low), ("high", limits.high))
    return [(side, limit) for side, limit in sides if abs(limit) != float("inf")]


def _tally_exact(x: torch.Tensor, flat: Limits | None, saturated: Limits | None) -> torch.Tensor:
    """As :func:`tally`, for entries that are not finite or whose squares overflow: masked, in float64."""
    finite = torch.isfinite(x)
    clean = torch.where(finite, x, torch.zeros((), dtype=x.dtype, device=x.device)).double()
    mask = finite.double()
    buffer = torch.empty_like(clean)
    inf = torch.full((), float("inf"), dtype=torch.float64, device=x.device)
    bad = _by(torch.sum, 1.0 - mask)

    def outside(limits: Limits | None) -> torch.Tensor:
        if limits is None:
            return torch.zeros_like(bad)
        return _by(torch.sum, ((x <= limits.low) | (x >= limits.high)).double() * mask)

    rows = {
        "count": bad.new_full(bad.shape, x.shape[0] * x.shape[2]),
        "positive": _by(torch.sum, torch.gt(clean, 0, out=buffer)),
        "zero": _by(torch.sum, (x == 0).double()),
        "saturated": outside(saturated),
        "flat": outside(flat),
        "nonfinite": bad,
        "total": _by(torch.sum, clean),
        "squares": _by(torch.sum, clean * clean),
        "low": torch.where(finite, clean, inf).amin((0, 2)),
        "high": torch.where(finite, clean, -inf).amax((0, 2)),
    }
    return torch.stack([rows[name] for name in STATISTICS])


def row_liveness(gradient: torch.Tensor, columns: int | None = None) -> torch.Tensor:
    """Largest absolute entry of each unit's part of a weight gradient; 0 means no gradient at all.

    Args:
        gradient: Units along axis 0.
        columns: Number of units where they lie along axis 1 instead, group by group
            (transposed convolutions have shape (inputs, units / groups, ...)).

    Returns:
        Shape (U,), float32.
    """
    if columns is not None:
        groups = columns // gradient.shape[1]
        gradient = gradient.reshape(groups, -1, *gradient.shape[1:]).transpose(1, 2).flatten(0, 1)
    rows = gradient.flatten(1) if gradient.ndim > 1 else gradient.unsqueeze(1)
    # Not aminmax: along a dimension it is nine times slower than both of these.
    return torch.maximum(rows.amax(1), -rows.amin(1)).float()
