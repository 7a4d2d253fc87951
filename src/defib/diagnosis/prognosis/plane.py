"""Linear optimisers: with zero gradient, every pre-activation lives in a plane.

Letters: eta learning rate, mu momentum, lambda weight decay, d dampening; kappa = eta lambda (1 - d).
With s_0 the pre-activation and q the stored momentum's pre-activation (momentum buffer times features;
for Adam m / sqrt(v) times features), k steps later

    s_k = A_k s_0 - C_k q,

and A_k and C_k depend neither on the unit nor on the sample. Proofs: docs/prognosis.md.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HeavyBall:
    """SGD with momentum on a parameter whose data gradient is zero.

    Attributes:
        lr: eta.
        momentum: mu, in [0, 1).
        decay: lambda.
        dampening: d.
        nesterov: Nesterov's form (d is 0 then).
    """

    lr: float
    momentum: float = 0.0
    decay: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    @property
    def kappa(self) -> float:
        """The decay of one step: eta lambda (1 - d)."""
        return self.lr * self.decay * (1 - self._damping)

    @property
    def _damping(self) -> float:
        """Without momentum there is no buffer, and torch leaves the dampening aside."""
        return self.dampening if self.momentum else 0.0

    @property
    def first_row(self) -> tuple[float, float]:
        """p_1 = a p_0 - b eta v_0: the numbers (a, b)."""
        mu, kappa = self.momentum, self.kappa
        if self.nesterov:
            return 1 - kappa * (1 + mu), mu * mu
        return 1 - kappa, mu

    @property
    def trace(self) -> float:
        """Trace of the 2 x 2 map of (p, eta v)."""
        mu, kappa = self.momentum, self.kappa
        return 1 + mu - kappa * (1 + mu) if self.nesterov else 1 + mu - kappa

    @property
    def determinant(self) -> float:
        """Its determinant."""
        return self.momentum * (1 - self.kappa) if self.nesterov else self.momentum

    @property
    def critical(self) -> float:
        """The kappa above which they oscillate: (1 - sqrt mu)^2; Nesterov ((1 - mu) / (1 + mu))^2."""
        mu = self.momentum
        return ((1 - mu) / (1 + mu)) ** 2 if self.nesterov else (1 - math.sqrt(mu)) ** 2

    @property
    def underdamped(self) -> bool:
        """The roots are complex: the whole pre-activation changes its sign."""
        return self.momentum > 0 and self.trace**2 < 4 * self.determinant

    @property
    def roots(self) -> tuple[float, float] | None:
        """The larger and the smaller root, 0 <= smaller < larger <= 1; None if they are not so."""
        gap = self.trace**2 - 4 * self.determinant
        if gap <= 0 or self.trace <= 0 or self.determinant < 0:
            return None
        larger = (self.trace + math.sqrt(gap)) / 2
        if self.kappa == 0.0:
            larger = 1.0
        smaller = self.determinant / larger
        return (larger, smaller) if smaller < larger <= 1.0 else None

    @property
    def reach(self) -> float | None:
        """Supremum rho over k of C_k / A_k, in units of the buffer; None if the roots are complex.

        Without decay eta mu / (1 - mu) (Nesterov eta mu^2 / (1 - mu)).
        """
        roots = self.roots
        if roots is None:
            return None
        a, b = self.first_row
        return self.lr * b / (a - roots[1])

    @property
    def angle(self) -> float:
        """theta, with cos theta = trace / (2 sqrt determinant); NaN if the roots are real."""
        if not self.underdamped:
            return math.nan
        return math.acos(self.trace / (2 * math.sqrt(self.determinant)))

    @property
    def latest_return(self) -> int | None:
        """Steps within which *every* silent unit fires if underdamped: ceil(pi / theta) + 1; else None."""
        return math.ceil(math.pi / self.angle) + 1 if self.underdamped else None

    def coefficients(self) -> Iterator[tuple[float, float]]:
        """(A_k, C_k) for k = 1, 2, ...; C_k in units of the buffer (it holds eta)."""
        p, v = (1.0, 0.0), (0.0, 1.0)
        mu, lam = self.momentum, self.decay
        while True:
            g = (lam * p[0], lam * p[1])
            v = tuple(mu * v[i] + (1 - self._damping) * g[i] for i in (0, 1))  # type: ignore[assignment]
            move = (g[0] + mu * v[0], g[1] + mu * v[1]) if self.nesterov else v
            p = (p[0] - self.lr * move[0], p[1] - self.lr * move[1])
            yield p[0], -p[1]


def adam_coasting(
    lr: float, betas: tuple[float, float], steps: float, decay: float = 0.0, amsgrad: bool = False
) -> Iterator[tuple[float, float]]:
    """(A_k, C_k) of Adam or AdamW for k = 1, 2, ..., eps next to nothing.

    Args:
        lr: eta.
        betas: beta_1, beta_2.
        steps: The optimiser's count of steps now (t).
        decay: Decoupled weight decay; 0 for Adam.
        amsgrad: The scale does not decay.

    Yields:
        A_k = a^k with a = 1 - eta lambda, and C_k = a C_(k-1) + eta c_k with
        c_k = beta_1^k / (1 - beta_1^(t+k)) sqrt(1 - beta_2^(t+k)) / beta_2^(k/2), in units of m / sqrt(v).
    """
    a, (beta1, beta2) = 1 - lr * decay, betas
    big_a, big_c, k = 1.0, 0.0, 0
    while True:
        k += 1
        scale = 1.0 if amsgrad else beta2 ** (k / 2)
        small = beta1**k / (1 - beta1 ** (steps + k)) * math.sqrt(1 - beta2 ** (steps + k)) / scale
        big_a *= a
        big_c = a * big_c + lr * small
        yield big_a, big_c


def adam_reach(
    lr: float, betas: tuple[float, float], steps: float, decay: float = 0.0, amsgrad: bool = False
) -> float:
    """rho_A = sup over k of C_k / A_k of Adam or AdamW, in units of m / sqrt(v); arguments as above.

    9.045 eta for the default betas, t large and no decay. Infinite where the momentum outlasts the scale
    (beta_1 >= sqrt(beta_2) a).

    Returns:
        The sum of eta a^-j c_j, up to the relative error of a float.
    """
    ratio = betas[0] / ((1.0 if amsgrad else math.sqrt(betas[1])) * (1 - lr * decay))
    if not 0.0 <= ratio < 1.0:
        return math.inf
    total = 0.0
    for k, (big_a, big_c) in enumerate(adam_coasting(lr, betas, steps, decay, amsgrad), 1):
        total = big_c / big_a
        if ratio**k < 1e-17:
            break
    return total


def weight_only_return(bias: float, nearest: float, shrink: float) -> int | None:
    """k*: steps until a unit fires if only its weights decay (S0-6).

    s_k = shrink^k (w . h) + b rises to b. With b > 0 and w . h < 0 it is positive from
    floor(ln(b / |w . h|) / ln(shrink)) + 1 steps on; with b <= 0 never.

    Args:
        bias: b.
        nearest: The smallest |w . h| over the samples.
        shrink: 1 - eta lambda, in (0, 1).

    Returns:
        The steps; None for never.
    """
    if bias <= 0:
        return None
    return max(0, math.floor(math.log(bias / nearest) / math.log(shrink)) + 1)
