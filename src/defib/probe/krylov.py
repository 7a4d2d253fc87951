"""Extreme eigenvalues of a symmetric operator that is only known by its products.

Lanczos with full re-orthogonalisation ("twice is enough", Giraud et al. 2005). For a Ritz pair
(t, u = V y) the residual |A u - t u| is exactly ``beta |y_last|``, and an eigenvalue of A lies
within it (Parlett, The Symmetric Eigenvalue Problem, theorem 4.5.1). Written by hand for that
bound, which scipy's ``eigsh`` does not return; a test compares both with a dense matrix.

Letters: ``n`` dimension, ``k`` steps, ``V`` orthonormal rows ``(k, n)``, ``T`` tridiagonal.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

Product = Callable[[Tensor], Tensor]
PROBABILITY = 0.99


@dataclass(frozen=True, kw_only=True)
class Ritz:
    """What k steps give.

    Attributes:
        values: Ritz values, rising, ``(k,)``.
        residuals: |A u - t u| of each, ``(k,)``.
        vectors: Their coordinates in the basis, one a column, ``(k, k)``.
        basis: V.
        exhausted: Whether V spans the whole space.
    """

    values: NDArray[np.float64]
    residuals: NDArray[np.float64]
    vectors: NDArray[np.float64]
    basis: Tensor
    exhausted: bool

    def vector(self, index: int) -> Tensor:
        """One Ritz vector, a unit vector ``(n,)``."""
        weights = torch.as_tensor(self.vectors[:, index], dtype=self.basis.dtype, device=self.basis.device)
        found: Tensor = self.basis.T @ weights
        length: Tensor = found.norm()
        return found / length

    def without_positive(self, vector: Tensor) -> Tensor:
        """A vector less its parts along Ritz vectors of clearly positive value (basis may be empty)."""
        top = max(float(np.abs(self.values).max(initial=0.0)), 1e-300)
        chosen = np.flatnonzero(self.values > 1e-6 * top)
        if not len(chosen):
            return vector
        weights = torch.as_tensor(self.vectors[:, chosen], dtype=self.basis.dtype, device=self.basis.device)
        part: Tensor = self.basis.T @ (weights @ (weights.T @ (self.basis @ vector)))
        return vector - part

    def floor(self) -> float:
        """No eigenvalue lies below this, with :data:`PROBABILITY` over the random start.

        Kuczynski and Wozniakowski (1992, theorem 4.2): for a start that is uniform on the sphere
        P(largest - found > e (largest - smallest)) <= 1.648 sqrt(n) exp(-sqrt(e) (2 k - 1)). Used on
        -A, with the found spread for the true one, and the residual of the largest added.

        Returns:
            The bound; the smallest eigenvalue itself where the whole space was spanned.
        """
        low, high = float(self.values[0]), float(self.values[-1] + self.residuals[-1])
        if self.exhausted:
            return low
        n, k = self.basis.shape[1], len(self.values)
        share = min((math.log(1.648 * math.sqrt(n) / (1 - PROBABILITY)) / (2 * k - 1)) ** 2, 0.999)
        return high - (high - low) / (1 - share)


def lanczos(
    product: Product, start: Tensor, most: int, tolerance: float = 1e-3, *, highest: bool = False
) -> Ritz:
    """Runs until the largest is known and the smallest is known to be negative, or ``most`` steps.

    A smallest value that is not negative is never taken for known: further steps may lower it. An
    invariant subspace is left by a new random direction, so that with ``most >= n`` every eigenvalue
    is found, multiple ones too.

    Args:
        product: v to A v, both ``(n,)``.
        start: A random vector that is not zero.
        most: Steps at most.
        tolerance: Residual over max |t| at which the largest counts as known; ten times that over its
            own size for the smallest.
        highest: Only the largest is asked for.

    Returns:
        Ritz values and vectors.
    """
    n = start.numel()
    most = min(most, n)
    basis = torch.zeros(most, n, dtype=start.dtype, device=start.device)
    generator = torch.Generator().manual_seed(0)
    diagonal: list[float] = []
    beside: list[float] = []
    vector = start / start.norm()
    for step in range(most):
        basis[step] = vector
        image = product(vector)
        diagonal.append(float(image @ vector))
        image = image - diagonal[-1] * vector - (beside[-1] * basis[step - 1] if step else 0.0)
        rest, length = _orthogonal(image, basis[: step + 1])
        if step + 1 == most:
            beside.append(length if most < n else 0.0)
            break
        size = max(map(abs, (*diagonal, *beside)))
        if length <= 50 * torch.finfo(start.dtype).eps * max(size, 1e-300):
            beside.append(0.0)
            fresh = torch.randn(n, generator=generator, dtype=torch.float64, device="cpu").to(start)
            rest, length = _orthogonal(fresh, basis[: step + 1])
        else:
            beside.append(length)
            if (highest or step % 4 == 3) and _known(diagonal, beside, tolerance, highest):
                break
        vector = rest / length
    return _ritz(diagonal, beside, basis[: len(diagonal)], exhausted=len(diagonal) == n)


def _orthogonal(vector: Tensor, basis: Tensor) -> tuple[Tensor, float]:
    """Its part orthogonal to the rows, and that part's norm; a second pass where the first lost digits."""
    before = float(vector.norm())
    for _ in range(3):
        vector = vector - basis.T @ (basis @ vector)
        after = float(vector.norm())
        if after > 0.7 * before:
            break
        before = after
    return vector, after


def _known(diagonal: list[float], beside: list[float], tolerance: float, highest: bool) -> bool:
    """Whether the largest is known, and unless only that counts, by how much the smallest is negative."""
    values, vectors = eigh_tridiagonal(diagonal, beside[:-1])
    bounds = np.abs(beside[-1] * vectors[-1])
    size = np.abs(values).max()
    high = bounds[-1] <= tolerance * size
    if highest:
        return bool(high)
    negative = values[0] < -1e-6 * size  # and not a zero that was rounded
    return bool(high and negative and bounds[0] <= 10 * tolerance * -values[0])


def _ritz(diagonal: list[float], beside: list[float], basis: Tensor, *, exhausted: bool) -> Ritz:
    values, vectors = eigh_tridiagonal(diagonal, beside[: len(diagonal) - 1])
    # Rounding in the products and in the basis: no bound is tighter than that.
    size = float(np.abs(values).max())
    rounding = 4 * torch.finfo(basis.dtype).eps * math.sqrt(basis.shape[1]) * size
    residuals = np.abs(beside[-1] * vectors[-1]) + rounding
    return Ritz(values=values, residuals=residuals, vectors=vectors, basis=basis, exhausted=exhausted)
