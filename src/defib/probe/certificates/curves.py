"""Bounds of an activation on an interval: its range, and two parallel lines that enclose it.

For a function f with |f''| <= c between two neighbouring points of a grid that are w apart, f differs
from the chord through them by at most c w^2 / 8. So the largest value on a grid plus that bounds f
minus any line from above, and the same from below. Points at which f' jumps are put into the grid, and
far out, where f lies within ``tail`` of a straight line, it differs from the chord by at most 2 ``tail``.

Letters: ``n`` entries, ``G`` points of a grid.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from defib.core.activation import Activation, Options
from defib.core.activation_index import activation_named

Array = NDArray[np.float64]

_HUGE = 1e300
_POINTS = 96
_ULPS = 32 * 2.0**-53
_CHUNK = 20_000


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What the bounds need to know of an activation f with given constants.

    Attributes:
        curvature: Upper bound of |f''| wherever it exists.
        breaks: Where f' jumps, or f does.
        reach: Beyond -reach and reach, f is within ``tail`` of a straight line on each side.
        tail: See there; inf if f is not so.
        jump: Largest jump of f itself.
        dip: By how much a function that else never falls can fall all the same.
        exact: Its values are computed without rounding.
        lines: Intervals on which f is affine, as PyTorch computes it.
        off: Intervals on which the derivative is 0, beside those that the activation itself names.
        monotone: f never falls, so that its range is between its ends.
        slope: Lower slope a of a leaky ReLU (0 for a ReLU); None for other functions.
    """

    curvature: float = 0.0
    breaks: tuple[float, ...] = ()
    reach: float = 0.0
    tail: float = 0.0
    jump: float = 0.0
    dip: float = 0.0
    exact: bool = False
    lines: tuple[tuple[float, float], ...] = ()
    off: tuple[tuple[float, float], ...] = ()
    monotone: bool = True
    slope: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Lines:
    """lower_slope z + lower <= f(z) <= upper_slope z + upper on [low, high]; each of shape (n,).

    Where the interval is infinite or tiny the slopes are 0 and the lines are the range's ends.
    """

    lower_slope: Array
    lower: Array
    upper_slope: Array
    upper: Array


@dataclass(frozen=True, kw_only=True)
class Bent:
    """An activation with its constants, ready to be bounded.

    Attributes:
        activation: What defib knows about it.
        options: Its constants.
        curve: What the bounds need.
    """

    activation: Activation
    options: Options
    curve: Curve = field(default_factory=Curve)

    def values(self, z: Array) -> Array:
        """f(z), elementwise; infinite where z or f is huge."""
        with np.errstate(all="ignore"):
            if self.activation.name == "gelu" and not self.options.get("tanh", 0.0):
                found = np.clip(z, -_HUGE, _HUGE) * ndtr(z)  # the same function, vectorised
            else:
                found = np.asarray(self.activation.forward(np.clip(z, -_HUGE, _HUGE), self.options))
        return np.asarray(np.where(np.abs(found) > 1e200, np.copysign(np.inf, found), found))

    def enclosure(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Range of f on [low, high]: lower and upper ends, each of shape (n,), rounded outward."""
        if self.curve.monotone:
            ends = self.values(low), self.values(high)
            return self._widened(ends[0] - self.curve.dip, ends[1] + self.curve.dip)
        found = [self._swing(a, b, np.zeros_like(a)) for a, b in _pieces(low, high)]
        return self._widened(np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found]))

    def lines(self, low: Array, high: Array) -> Lines:
        """Two lines that enclose f on [low, high]; shape (n,) each, finite where the interval is."""
        bottom, top = self.enclosure(low, high)
        finite = np.isfinite(low) & np.isfinite(high) & np.isfinite(bottom) & np.isfinite(top)
        usable = finite & (high - low > 1e-9 * np.maximum(1.0, np.abs(low) + np.abs(high)))
        slope = np.zeros_like(low)
        ends = self.values(low[usable]), self.values(high[usable])
        slope[usable] = (ends[1] - ends[0]) / (high - low)[usable]
        swing = [self._swing(a, b, k) for a, b, k in _pieces(low[usable], high[usable], slope[usable])]
        lower, upper = bottom.copy(), top.copy()
        if usable.any():
            size = np.abs(slope) * np.maximum(np.abs(low), np.abs(high))
            error = _ULPS * (size + np.maximum(np.abs(bottom), np.abs(top)))[usable] + 1e-300
            lower[usable] = np.concatenate([s[0] for s in swing]) - error
            upper[usable] = np.concatenate([s[1] for s in swing]) + error
        lines = Lines(lower_slope=slope, lower=lower, upper_slope=slope, upper=upper)
        return lines if self.curve.slope is None else self._bent_once(low, high, usable, lines)

    def _bent_once(self, low: Array, high: Array, usable: Array, chord: Lines) -> Lines:
        """A (leaky) ReLU is convex with one kink at 0: below it lies the steeper or the flatter side."""
        assert self.curve.slope is not None
        if not 0.0 <= self.curve.slope <= 1.0:
            return chord
        slope = np.where(high > -low, 1.0, self.curve.slope)
        slope = np.where(low >= 0, 1.0, np.where(high <= 0, self.curve.slope, slope))
        return Lines(
            lower_slope=np.where(usable, slope, chord.lower_slope),
            lower=np.where(usable, 0.0, chord.lower),
            upper_slope=chord.upper_slope,
            upper=chord.upper,
        )

    def _swing(self, low: Array, high: Array, slope: Array) -> tuple[Array, Array]:
        """Lower and upper bound of f(z) - slope z on [low, high], but for rounding; shape (n,)."""
        curve = self.curve
        low, high = np.maximum(low, -_HUGE), np.minimum(high, _HUGE)
        reach = max(curve.reach, *(abs(b) for b in curve.breaks), 0.0) if curve.breaks else curve.reach
        inner_low, inner_high = np.clip(low, -reach, reach), np.clip(high, -reach, reach)
        share = np.linspace(0.0, 1.0, _POINTS if curve.curvature else 2)
        inner = inner_low[:, None] + share * (inner_high - inner_low)[:, None]
        inner = np.clip(inner, low[:, None], high[:, None])
        breaks = np.clip(np.broadcast_to(np.array(curve.breaks), (len(low), len(curve.breaks))), low[:, None],
                         high[:, None])  # fmt: skip
        grid = np.sort(np.concatenate([low[:, None], inner, breaks, high[:, None]], axis=1), axis=1)
        with np.errstate(all="ignore"):
            values = self.values(grid) - slope[:, None] * grid
            gap = np.diff(grid, axis=1)
            bend = np.where(gap > 0, curve.curvature * gap * gap / 8.0, 0.0)
            outside = (grid[:, :-1] >= reach) | (grid[:, 1:] <= -reach)
        bend = np.where(outside, np.minimum(bend, 2 * curve.tail), bend) * (1 + _ULPS) + curve.jump
        above = np.maximum(values[:, :-1], values[:, 1:]) + bend
        below = np.minimum(values[:, :-1], values[:, 1:]) - bend
        return np.nan_to_num(below, nan=-np.inf, neginf=-np.inf, posinf=np.inf).min(axis=1), np.nan_to_num(
            above, nan=np.inf, posinf=np.inf, neginf=-np.inf
        ).max(axis=1)

    def _widened(self, bottom: Array, top: Array) -> tuple[Array, Array]:
        """Room for the rounding of numpy's own functions; a ReLU's values are exact."""
        if self.curve.exact:
            return bottom, top
        floor, ceiling = _LIMITS.get(self.activation.name, (-np.inf, np.inf))
        with np.errstate(invalid="ignore"):
            down, up = bottom - _ULPS * np.abs(bottom) - 1e-300, top + _ULPS * np.abs(top) + 1e-300
        return np.maximum(np.where(np.isnan(down), bottom, down), floor), np.minimum(
            np.where(np.isnan(up), top, up), ceiling
        )


_LIMITS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "softplus": (0.0, np.inf), "exp": (0.0, np.inf),
           "logsigmoid": (-np.inf, 0.0)}  # fmt: skip
"""Values that rounding does not cross either."""


def bent(name: str, options: Options) -> Bent | None:
    """The activation of that name with its constants; None if there are no bounds for it."""
    activation, make = activation_named(name), _CURVES.get(name)
    if activation is None or make is None:
        return None
    return Bent(activation=activation, options=options, curve=make(options))


def _pieces(*arrays: Array) -> list[tuple[Array, ...]]:
    """Arrays of one length in pieces of bounded size; at least one piece."""
    cuts = range(_CHUNK, max(len(arrays[0]), 1), _CHUNK)
    return list(zip(*(np.split(a, list(cuts)) for a in arrays), strict=True))


def _exponential(options: Options) -> Curve:
    alpha, scale = options.get("alpha", 1.0), options.get("scale", 1.0)
    rate = options.get("input_scale", 1.0)
    reach = 40.0 / max(abs(rate), 1e-300)
    return Curve(
        curvature=abs(alpha * scale) * rate * rate,
        breaks=(0.0,),
        reach=reach,
        tail=abs(alpha * scale) * 1e-17,
        lines=((0.0, np.inf),),
        monotone=alpha * rate >= 0 and scale >= 0,
    )


def _celu(options: Options) -> Curve:
    alpha = options.get("alpha", 1.0)
    return _exponential({"alpha": alpha, "input_scale": 1.0 / alpha})


def _clamped(options: Options, low: float, high: float) -> Curve:
    low, high = (
        options.get("min_val", options.get("min", low)),
        options.get("max_val", options.get("max", high)),
    )
    breaks = tuple(b for b in (low, high) if np.isfinite(b))
    slope = 0.0 if (low, high) == (0.0, np.inf) else None
    return Curve(breaks=breaks, lines=((low, high),), slope=slope, exact=True)


def _leaky(options: Options) -> Curve:
    slope = options.get("negative_slope", 0.01)
    return Curve(breaks=(0.0,), lines=((0.0, np.inf), (-np.inf, 0.0)), slope=slope, monotone=slope >= 0)


def _softplus(options: Options) -> Curve:
    beta, threshold = options.get("beta", 1.0), options.get("threshold", 20.0)
    jump = float(np.log1p(np.exp(-threshold))) / abs(beta)
    return Curve(
        curvature=abs(beta) / 4,
        breaks=(threshold / beta,),
        reach=max(40.0, abs(threshold)) / abs(beta),
        tail=1e-16 / abs(beta),
        jump=jump * (1 + 1e-12),
        dip=jump * (1 + 1e-12),
        lines=((float(np.nextafter(threshold / beta, np.inf)), np.inf),) if beta > 0 else (),
        monotone=True,
    )


def _threshold(options: Options) -> Curve:
    at = options.get("threshold", 0.0)
    slope, start = (0.0, 0.0) if at == 0.0 else (None, float(np.nextafter(at, np.inf)))
    return Curve(
        breaks=(at,), jump=abs(at), lines=((start, np.inf),), slope=slope, monotone=at >= 0, exact=True
    )


def _shrink(options: Options, jump: bool) -> Curve:
    lam = options.get("lambd", 0.5)
    lines = ((-np.inf, -lam), (lam, np.inf))
    return Curve(breaks=(-lam, lam), jump=lam if jump else 0.0, lines=lines, off=((-lam, lam),))


_CURVES: dict[str, Callable[[Options], Curve]] = {
    "relu": _threshold,
    "leaky_relu": _leaky,
    "hardtanh": lambda o: _clamped(o, -1.0, 1.0),
    "clamp": lambda o: _clamped(o, -np.inf, np.inf),
    "abs": lambda _: Curve(breaks=(0.0,), lines=((-np.inf, 0.0), (0.0, np.inf)), monotone=False, exact=True),
    # sup |f''|: sigmoid 1 / (6 sqrt 3), tanh 4 / (3 sqrt 3), both at their inflection of f'.
    "sigmoid": lambda _: Curve(curvature=0.0963, reach=40.0, tail=1e-17),
    "tanh": lambda _: Curve(curvature=0.7699, reach=20.0, tail=1e-17),
    # f'' = phi(z) (2 - z^2), largest at 0: sqrt(2 / pi); the approximation's is below 0.81 (tested).
    "gelu": lambda _: Curve(curvature=0.85, reach=9.0, tail=1e-15, monotone=False),
    # f'' = s (1 - s) (2 + z (1 - 2 s)), largest at 0: 1 / 2.
    "silu": lambda _: Curve(curvature=0.5001, reach=45.0, tail=1e-16, monotone=False),
    "mish": lambda _: Curve(curvature=0.8, reach=45.0, tail=1e-16, monotone=False),
    "elu": _exponential,
    "selu": lambda o: _exponential({"alpha": 1.6732632423543772, "scale": 1.0507009873554805} | dict(o)),
    "celu": _celu,
    "softplus": _softplus,
    "logsigmoid": lambda _: Curve(curvature=0.2501, reach=40.0, tail=1e-16),
    "exp": lambda _: Curve(curvature=np.inf, tail=np.inf),
    "hardswish": lambda _: Curve(
        curvature=0.3334, breaks=(-3.0, 3.0), reach=3.0, lines=((3.0, np.inf),), monotone=False
    ),
    "hardsigmoid": lambda _: Curve(breaks=(-3.0, 3.0), lines=((-3.0, 3.0),)),
    "softshrink": lambda o: _shrink(o, jump=False),
    "hardshrink": lambda o: _shrink(o, jump=True),
}
