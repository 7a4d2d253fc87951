"""Is there a way down from here? Asked by evaluating the loss, never by a model of it.

Letters: ``theta`` parameters ``(P,)``, ``v`` a unit direction ``(P,)``, ``t`` a distance,
``d(t) = L(theta) - L(theta + t v)`` the decrease.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defib.core.triage import Curvature, Escape, Share
from defib.probe.curvature import Spectrum
from defib.probe.objective import Objective

WORTH = 1e-3
"""Decrease, over the loss, from which a way down is worth the name: a tenth of a percent. Below it
lies what a not quite converged minimum has left along its flattest directions."""
_PROBES = 16
_DECADES = (-4.0, 1.0)
_PER_DECADE = 4
_ORDERS = (0.9, 12.0)
_MOST_SHARES = 8


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way down and its direction.

    Attributes:
        escape: The numbers.
        direction: The unit direction, signed downhill, ``(P,)``.
    """

    escape: Escape
    direction: Tensor


def along(objective: Objective, direction: Tensor, loss: float) -> tuple[float, float, float]:
    """The best of a line search both ways along a direction.

    Distances lie on a grid of four a decade from 1e-4 to 10 times the size of the parameters (of
    usual first weights, if those are larger).

    Returns:
        Signed distance, decrease there, and the order: slope of log d over log t a decade before it
        (NaN if nothing falls there yet); 0, 0 and NaN if nothing lies lower.
    """
    size = max(float(objective.theta.norm()), float(objective.scale().norm()))
    low, high = _DECADES
    grid = [size * 10 ** (low + i / _PER_DECADE) for i in range(int((high - low) * _PER_DECADE) + 1)]
    best, where = 0.0, 0.0
    for sign in (1.0, -1.0):
        for t in grid:
            decrease = loss - objective.value(objective.theta + sign * t * direction)
            if decrease > best:
                best, where = decrease, sign * t
    if not best > rounding(objective, loss):
        return 0.0, 0.0, math.nan
    near, nearer = (loss - objective.value(objective.theta + where / d * direction) for d in (10, 100))
    if not near > rounding(objective, loss):
        return where, best, math.nan
    return where, best, math.log10(near / nearer if nearer > rounding(objective, loss) else best / near)


def rounding(objective: Objective, loss: float) -> float:
    """What the loss can change by rounding alone: 100 units of its last digit."""
    return 100 * torch.finfo(objective.theta.dtype).eps * max(abs(loss), 1e-300)


def gradient_step(objective: Objective, gradient: Tensor, loss: float) -> float:
    """Decrease by the best step along the negative gradient (a line search, to a factor of two)."""
    length = float(gradient.norm())
    if not length > 0:
        return 0.0
    size = max(float(objective.theta.norm()), float(objective.scale().norm()))
    best = 0.0
    for i in range(-24, 3):
        decrease = loss - objective.value(objective.theta - size * 2.0**i / length * gradient)
        best = max(best, decrease if math.isfinite(decrease) else 0.0)
    return best


def saddle_way(objective: Objective, spectrum: Spectrum, loss: float) -> Way | None:
    """Follows the eigenvector of the smallest eigenvalue both ways; None if nothing lies lower."""
    lowest = spectrum.curvature.lambda_min
    where, decrease, order = along(objective, spectrum.lowest, loss)
    if not decrease:
        return None
    return _way(objective, spectrum.lowest, where, decrease, order, lowest, loss)


def degenerate_way(objective: Objective, spectrum: Spectrum, loss: float, seed: int = 0) -> Way | None:
    """Looks for a way down where the second derivative shows none.

    Random directions on the scale of usual first weights, less their parts along positive
    curvature, both ways. Every other one leaves the biases alone: in a deep network whose weights
    are all zero they shift the output at a lower order than the weights shape it. To count,
    the loss must fall from the start on, by a power of the distance (the order, taken a decade
    before the best place): a loss that is first exactly flat and falls beyond some distance (a dead
    unit brought back by force) is no saddle.

    Returns:
        The best way down; None if none of 16 directions gives one.
    """
    generator = torch.Generator().manual_seed(seed)
    best: Way | None = None
    weights = objective.weights()
    for probe in range(_PROBES):
        drawn = torch.randn(objective.count, generator=generator, dtype=torch.float64).to(objective.theta)
        chosen = drawn if probe % 2 else drawn * weights
        v = spectrum.without_positive(chosen * objective.scale())
        length = float(v.norm())
        if not length > 0:
            continue
        where, decrease, order = along(objective, v / length, loss)
        if decrease and _ORDERS[0] <= order <= _ORDERS[1]:
            way = _way(objective, v / length, where, decrease, order, 0.0, loss)
            best = way if best is None or decrease > best.escape.decrease else best
    return best


def _way(
    objective: Objective, v: Tensor, where: float, decrease: float, order: float, bent: float, loss: float
) -> Way:
    direction = v if where >= 0 else -v
    squares = {n: float(part.square().sum()) for n, part in objective.by_name(direction).items()}
    first = sorted(squares.items(), key=lambda item: -item[1])[:_MOST_SHARES]
    return Way(
        escape=Escape(
            curvature=bent,
            predicted=-0.5 * bent * where**2,
            decrease=decrease,
            relative=decrease / abs(loss) if loss else math.inf,
            distance=abs(where),
            order=order,
            shares=tuple(Share(name=n, share=s) for n, s in first if s > 0),
        ),
        direction=direction,
    )


def quasi_newton(objective: Objective, loss: float, iterations: int = 20) -> float:
    """Decrease by some iterations of L-BFGS on a copy of the parameters.

    A narrow valley looks like a minimum to plain gradient steps; to this it does not.

    Returns:
        The decrease; 0 if it went nowhere.
    """
    # Not torch's: a step of a torch optimiser calls whatever hooks the user's session has on them.
    from scipy.optimize import minimize

    def asked(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        theta = torch.as_tensor(point).to(objective.theta)
        return objective.value(theta), objective.gradient(theta).double().cpu().numpy()

    start = objective.theta.double().cpu().numpy()
    limits = {"maxiter": iterations, "maxfun": 3 * iterations, "ftol": 0.0, "gtol": 0.0}
    found = minimize(asked, start, jac=True, method="L-BFGS-B", options=limits)
    after = objective.value(torch.as_tensor(found.x).to(objective.theta))
    return max(loss - after, 0.0) if math.isfinite(after) else 0.0


def is_negative(curvature: Curvature) -> bool:
    """Whether negative curvature is certain: a Ritz value is a Rayleigh quotient, so only rounding counts."""
    digits = {"float64": 1e-13, "float32": 1e-5}.get(curvature.precision, 1e-2)
    if curvature.method == "finite differences":
        digits = math.sqrt(digits)
    size = max(abs(curvature.lambda_max), abs(curvature.lambda_min))
    return curvature.lambda_min < -digits * size
