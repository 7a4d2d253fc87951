"""How deep a signal travels: the mean-field theory of wide random networks.

q is the variance of a pre-activation, c the correlation of those of two inputs,
s2 = fan-in * Var(w), b2 = Var(b), f the activation (Poole et al. 2016; Schoenholz et al. 2017)::

    q    <- s2 E[f(sqrt(q) z)^2] + b2,                    z ~ N(0, 1)
    c    <- (s2 E[f(u1) f(u2)] + b2) / q,                 u1, u2 ~ N(0, q), correlation c
    chi_1 = s2 E[f'(sqrt(q) z)^2],                        the gradient's gain per layer, squared
    1 / xi_c = -ln(s2 E[f'(u1) f'(u2)]) at the fixed c

A network much deeper than 6 xi_c cannot be trained, for nothing of the input is left there.
Expectations are Gauss-Legendre quadratures with 64 nodes on each side of 0, where most activations
have their kink.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from defib.core.activation import Activation, Array, Options

_NODES = 64
_STEPS = 3000
_LEVEL = 1e-7


@dataclass(frozen=True, kw_only=True)
class MeanField:
    """The fixed points.

    Attributes:
        variance: q*; inf if the signal grows without end.
        chi: chi_1 at q*.
        correlation: c* that two different inputs reach.
        depth: 6 xi_c in layers; inf at the edge of chaos.
    """

    variance: float
    chi: float
    correlation: float
    depth: float


def mean_field(activation: Activation, weights: float, biases: float, options: Options) -> MeanField:
    """The fixed points of a wide random network.

    Args:
        activation: Its activation, elementwise.
        weights: Fan-in times the variance of a weight.
        biases: Variance of a bias.
        options: Constants of the activation.

    Returns:
        Fixed points and depth; NaN but for the variance where the signal grows without end.
    """
    q = _variance(activation, weights, biases, options)
    if not math.isfinite(q):
        return MeanField(variance=q, chi=math.nan, correlation=math.nan, depth=math.nan)
    chi = weights * gaussian_mean(lambda u: activation.derivative(u, options) ** 2, q)
    c = _correlation(activation, weights, biases, options, q) if chi > 1 + _LEVEL else 1.0
    slope = chi if c == 1.0 else weights * _pair_mean(activation.derivative, q, c, options)
    return MeanField(variance=q, chi=chi, correlation=c, depth=_depth(slope))


def gaussian_mean(function: Callable[[Array], Array], variance: float) -> float:
    """E[g(u)] for a normal number u of this variance.

    Args:
        function: g, elementwise.
        variance: Of u.

    Returns:
        The mean.
    """
    z, mass = _line()
    return float(mass @ function(math.sqrt(variance) * z))


def _depth(slope: float) -> float:
    """6 xi_c for the slope of the correlation map at its fixed point."""
    if not slope > 0:
        return 0.0
    rate = -math.log(slope)
    return 6 / rate if rate > _LEVEL else math.inf


def _variance(activation: Activation, weights: float, biases: float, options: Options) -> float:
    """q* from q = 1 on; inf if it leaves every bound."""
    q = 1.0
    for _ in range(_STEPS):
        after = weights * gaussian_mean(lambda u: activation.forward(u, options) ** 2, q) + biases
        if not after < 1e12:
            return math.inf
        if abs(after - q) <= 1e-12 * max(after, 1e-300) or after < 1e-30:
            return after
        q = after
    return q


def _correlation(activation: Activation, weights: float, biases: float, options: Options, q: float) -> float:
    """The stable c* below 1; 1 if there is none."""
    c = 0.5
    for _ in range(_STEPS):
        after = (weights * _pair_mean(activation.forward, q, c, options) + biases) / q
        after = min(max(after, -1.0), 1.0)
        if abs(after - c) < 1e-10:
            break
        c = after
    return 1.0 if c > 1 - 1e-6 else c


def _pair_mean(function: "object", q: float, c: float, options: Options) -> float:
    """E[g(u1) g(u2)] for two normal numbers of variance q and correlation c."""
    assert callable(function)
    z, mass = _line()
    root = math.sqrt(q)
    second = root * (c * z[:, None] + math.sqrt(max(1 - c * c, 0.0)) * z[None, :])
    first = np.asarray(function(root * z, options))
    return float((mass * first) @ (np.asarray(function(second, options)) @ mass))


@cache
def _line() -> tuple[Array, Array]:
    """Nodes and weights of E over N(0, 1): Gauss-Legendre on both sides of the kink at 0, out to 10."""
    x, w = np.polynomial.legendre.leggauss(_NODES)
    half = 5 * (x + 1)
    mass = 5 * w * np.exp(-0.5 * half**2) / math.sqrt(2 * math.pi)
    return np.concatenate([-half[::-1], half]), np.concatenate([mass[::-1], mass])
