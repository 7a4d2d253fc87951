"""Wide random networks in formulas: expectations over Gaussian pre-activations.

In a wide net with weights of variance ``sw / fan_in`` and biases of variance ``sb``
pre-activations are Gaussian. Their variance ``q`` follows ``q' = sw E[f(s)^2] + sb``,
and a gradient's squared norm is multiplied by ``chi = sw E[f'(s)^2]`` at each layer
(Poole et al. 2016, Schoenholz et al. 2017).

Letters: ``f`` activation, ``s`` pre-activation, ``z`` a standard normal number, ``c`` a correlation.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


def _normal(count: int) -> tuple[Tensor, Tensor]:
    """Places and weights of a sum that stands for the mean over a standard normal number.

    An even number of places from -10 to 10: exact to rounding for smooth functions, and,
    since none of them is 0, to 1e-5 for halves that meet in a kink or a jump there.

    Args:
        count: How many, even.

    Returns:
        Places and weights, each of shape (count,).
    """
    places = torch.linspace(-10, 10, count, dtype=torch.float64)
    return places, torch.softmax(-places.square() / 2, 0)


_NODES, _WEIGHTS = _normal(2000)
_FEW_NODES, _FEW_WEIGHTS = _normal(250)


def slope_of(f: Function) -> Function:
    """The derivative that autograd gives for an elementwise function."""

    def derivative(s: Tensor) -> Tensor:
        with torch.enable_grad():
            s = s.detach().requires_grad_()
            (found,) = torch.autograd.grad(f(s).sum(), s)
        return found

    return derivative


def expect(g: Function, q: float) -> float:
    """E[g(s)] for s of variance ``q`` and mean 0."""
    return float((_WEIGHTS * g(math.sqrt(q) * _NODES)).sum())


def expect_pair(g: Function, q: float, c: float) -> float:
    """E[g(s) g(s')] for two such numbers of correlation ``c``."""
    s = math.sqrt(q) * _FEW_NODES
    other = c * s[:, None] + math.sqrt(max(0.0, 1 - c * c)) * s[None, :]
    inner = (_FEW_WEIGHTS * g(other.reshape(-1)).reshape(other.shape)).sum(1)
    return float((_FEW_WEIGHTS * g(s) * inner).sum())


def fixed_variance(f: Function, sw: float, sb: float, *, start: float = 1.0, rounds: int = 500) -> float:
    """q*: the variance that layers settle at."""
    q = start
    for _ in range(rounds):
        q, before = sw * expect(lambda s: f(s).square(), q) + sb, q
        if abs(q - before) < 1e-12 * q:
            break
    return q


def fixed_correlation(f: Function, sw: float, sb: float, q: float, *, rounds: int = 2000) -> float:
    """c*: the correlation that two different inputs settle at."""
    c = 0.5
    for _ in range(rounds):
        c, before = min(1.0, (sw * expect_pair(f, q, c) + sb) / q), c
        if abs(c - before) < 1e-9:
            break
    return c
