"""The largest curvature of a loss, as it was measured while a run was under way.

H is the Hessian of one batch's own loss at the parameters of one step; S is the diagonal matrix of
what the optimiser multiplies each entry of the gradient with (its rate; over the square root of the
second moment for Adam and its kind). The eigenvalues of S^1/2 H S^1/2 are rate x curvature in the
optimiser's own geometry; how large they may be is told by :mod:`defib.core.stability`.

Letters: ``R`` measurements, ``P`` parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARPNESS_COLUMNS = (
    "largest", "largest_error", "product", "product_error", "along", "bound", "reached", "products",
)  # fmt: skip
"""What is kept of one measurement; see :class:`Sharpness`. New ones are added at the end."""

FACTS = "curvature"
"""Name of the fact that tells of all measurements of a run together."""


@dataclass(frozen=True, kw_only=True)
class Sharpness:
    """Measurements of one optimiser's run; each column has shape (R,), NaN where it is unknown.

    Attributes:
        steps: The steps whose batches they are of.
        largest: Largest eigenvalue of H.
        largest_error: An eigenvalue of H lies within this distance of it (residual bound).
        product: Largest eigenvalue of S^1/2 H S^1/2, weight decay that is part of the gradient added.
        product_error: An eigenvalue lies within this distance of it.
        along: The same matrix along a direction that was fixed before this batch was drawn, mainly the
            steepest of the measurement before: over batches drawn independently its mean is at most the
            largest eigenvalue of the mean loss, while that of ``product`` is at least that.
        bound: Largest stable ``product`` (:mod:`defib.core.stability`).
        reached: Share of this loss's gradient that the optimiser was given: 1, or less if it was clipped.
        products: Products with H that it took.
    """

    steps: NDArray[np.int64]
    largest: NDArray[np.float64]
    largest_error: NDArray[np.float64]
    product: NDArray[np.float64]
    product_error: NDArray[np.float64]
    along: NDArray[np.float64]
    bound: NDArray[np.float64]
    reached: NDArray[np.float64]
    products: NDArray[np.float64]


class Declined(Exception):
    """A measurement that cannot be made here; the reason in one line."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """What is to be measured, in tensors.

    Attributes:
        loss: The scalar; its graph is whole, and is so afterwards.
        leaves: The parameters that the optimiser owns and the loss reaches, P entries together.
        scale: What the loss was multiplied with (a loss scale).
        weights: For each leaf the diagonal of S, a number or a tensor of its shape; None where S is unknown.
        decay: For each leaf what weight decay adds to the diagonal of H.
        sign: -1 for an optimiser that climbs.
        before: Directions of the measurement before, of H and of S^1/2 H S^1/2; None for the first.
        saved: Bytes that the graph keeps.
    """

    loss: Any
    leaves: tuple[Any, ...]
    scale: float
    weights: tuple[Any, ...] | None
    decay: tuple[float, ...]
    sign: float
    before: tuple[Any, Any]
    saved: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Surveyed:
    """What came of it.

    Attributes:
        largest: As in :class:`Sharpness`, like the next four.
        largest_error: See there.
        product: See there; NaN where S is unknown.
        product_error: See there.
        along: See there; NaN for the first measurement.
        products: Products made.
        gradient: The gradient of the unscaled loss by each leaf, without a graph; None where there is none.
        after: Directions for the next measurement.
    """

    largest: float
    largest_error: float
    product: float
    product_error: float
    along: float
    products: int
    gradient: tuple[Any, ...]
    after: tuple[Any, Any]


Surveyor = Callable[[Survey], Surveyed]
"""Carries out a survey; ``probe.sharpness.survey`` is one. Raises :class:`Declined` where it cannot."""
