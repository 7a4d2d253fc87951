"""Is the chance that all N curvatures are positive one in 2^N?

Claim
-----
A true minimum needs every one of N coordinates to be at a minimum, so its probability falls
as 2^-N.

Prediction
----------
That most stationary points of many coordinates are saddles is right. The number is wrong: the
curvatures are the eigenvalues of one matrix, and eigenvalues of a random symmetric matrix
repel each other, so that it is far harder to have all of them on one side of 0 than to throw
N heads. For the Gaussian orthogonal ensemble (independent normal entries, those on the
diagonal of twice the variance), P(all positive) is (2 - sqrt 2) / 4 for N = 2, (pi - 2 sqrt 2)
/ (4 pi) for N = 3, and falls as exp(-(ln 3 / 4) N^2) for large N. 2^-N would be right if the
matrix had no entries off its diagonal.

Method
------
Many random matrices. One is positive definite if every pivot of its elimination is positive;
the elimination is done column by column, and only matrices that are still positive get
another column, so that ten million of them are cheap. The leading block of size N decides N.

References:
----------
Dean, Majumdar 2006, Large deviations of extreme eigenvalues of random matrices; Bray, Dean
2007, Statistics of critical points of Gaussian fields on large-dimensional spaces; Dauphin et
al. 2014, Identifying and attacking the saddle point problem.
"""

import math
from dataclasses import dataclass

import numpy as np

from defib.lab.dials import dial
from defib.lab.estimate import Estimate, at_most, near, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Published, Topic
from defib.lab.figure import Figure, line

EXACT = {
    2: Published(value=(2 - math.sqrt(2)) / 4, source="Dean, Majumdar 2006 (exact)"),
    3: Published(value=(math.pi - 2 * math.sqrt(2)) / (4 * math.pi), source="Dean, Majumdar 2006 (exact)"),
}


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    matrices: int = dial(60_000_000, "random matrices", quick=3_000_000, paper=200_000_000)
    largest: int = dial(6, "largest N", quick=5)
    coupling: float = dial(1.0, "deviation of the entries off the diagonal; 0 makes coordinates independent")
    tolerance: float = dial(0.1, "how far a probability may be from 2^-N, relatively")
    rare: float = dial(0.1, "a share of extrema at the largest N that makes nearly all points saddles")


class GoeSigns(Experiment[Dials]):
    """Signs of the eigenvalues of random symmetric matrices."""

    slug = "goe-signs"
    title = "Is the chance that all N curvatures are positive one in 2^N?"
    topic = Topic.STATIONARY
    rows = ("S0-16",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="without entries off the diagonal the coordinates are independent, and counting is right",
            dials={"coupling": 0.0},
            changes=("S0-16",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        chunk = 1_000_000
        counts = np.zeros(dials.largest, dtype=np.int64)
        sizes = [chunk] * (dials.matrices // chunk)
        for number, size in enumerate(run.track(sizes)):
            counts += _positive(size, dials, run.numpy(number))
        found = {n: share(int(counts[n - 1]), len(sizes) * chunk) for n in range(2, dials.largest + 1)}
        last = found[dials.largest]
        # A matrix and its negative are equally likely: all negative is as rare as all positive.
        extrema = Estimate(value=2 * last.value, low=2 * last.low, high=2 * last.high, n=last.n)
        parts = [
            Part(
                row="S0-16",
                says=f"at N = {dials.largest} nearly all points are saddles",
                estimate=extrema,
                region=at_most(dials.rare),
            )
        ]
        parts += [
            Part(
                row="S0-16",
                says=f"at N = {n} all curvatures are positive with probability 2^-{n}",
                estimate=estimate,
                region=near(2.0**-n, dials.tolerance * 2.0**-n),
                published=EXACT.get(n),
            )
            for n, estimate in found.items()
        ]
        return Measurement(parts=tuple(parts), figure=_figure(found))


def _positive(
    size: int, dials: Dials, rng: np.random.Generator
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """How many leading blocks of size 1, 2, ... are positive definite.

    Column n of the Cholesky factor L of a leading block is L^-1 a for the new column a of the
    matrix; the block with it is positive definite if the new diagonal entry exceeds |L^-1 a|^2.

    Args:
        size: Matrices to draw.
        dials: The settings.
        rng: Where chance comes from.

    Returns:
        Counts, shape (largest,).
    """
    counts = np.zeros(dials.largest, dtype=np.int64)
    factor = np.zeros((size, 0, 0))
    for n in range(dials.largest):
        alive = len(factor)
        column = dials.coupling * rng.standard_normal((alive, n))
        corner = math.sqrt(2) * rng.standard_normal(alive)
        for row in range(n):
            column[:, row] -= (factor[:, row, :row] * column[:, :row]).sum(1)
            column[:, row] /= factor[:, row, row]
        pivot = corner - (column * column).sum(1)
        kept = pivot > 0
        counts[n] = int(kept.sum())
        grown = np.zeros((counts[n], n + 1, n + 1))
        grown[:, :n, :n] = factor[kept]
        grown[:, n, :n] = column[kept]
        grown[:, n, n] = np.sqrt(pivot[kept])
        factor = grown
    return counts


def _figure(found: dict[int, Estimate]) -> Figure:
    sizes = list(found)
    return Figure(
        title="P(all N eigenvalues > 0)",
        x="N",
        y="probability",
        lines=(
            line(
                "random symmetric matrices",
                sizes,
                [e.value for e in found.values()],
                low=[e.low for e in found.values()],
                high=[e.high for e in found.values()],
            ),
            line("2^-N", sizes, [2.0**-n for n in sizes], dashed=True),
            line("exact (N = 2, 3)", list(EXACT), [p.value for p in EXACT.values()], dashed=True),
            line("exp(-(ln 3 / 4) N^2)", sizes, [3 ** (-(n**2) / 4) for n in sizes], dashed=True),
        ),
        log_y=True,
    )
