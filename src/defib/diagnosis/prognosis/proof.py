"""Proofs for all time: which units can never fire again, and which surely will.

A part's future is a sum of modes, values times a factor d_j that falls from 1 (``family.Tail``). Sort the
modes of all parts by rate, slowest first, and let T_1, T_2, ... be the partial sums of their
pre-activations. At every later step the pre-activation, divided by the slowest factor, is

    sum_i (d^i_j - d^(i+1)_j) T_i + e_j,

with weights that are not negative and add up to 1 (Abel's summation): a mean of the T_i. So a unit whose
T_i (plus the bound of e) are all <= 0 on every sample never fires on them. With constant rates the
slowest mode wins in the end: if T_1 > e on a sample, the unit fires some day.

Letters: ``N`` samples, ``U`` units, ``D`` entries of one parameter of one unit; j steps ahead.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defib.diagnosis.prognosis.arithmetic import Exact
from defib.diagnosis.prognosis.family import Tail
from defib.diagnosis.prognosis.samples import Samples

ENTRIES = 4_000_000
"""Pre-activations that are held at once."""


@dataclass(frozen=True, kw_only=True)
class Future:
    """What is certain about units, for all time.

    Attributes:
        never: They cannot fire on the samples, shape (U,).
        surely: They will, shape (U,).
        margin: Distance of the best partial sum from firing, over the size of what is summed, shape (U,);
            positive for ``never``.
    """

    never: NDArray[np.bool_]
    surely: NDArray[np.bool_]
    margin: Exact


def future(samples: Samples, tails: Sequence[Tail], units: int) -> Future:
    """Looks at all time.

    Args:
        samples: The kept samples.
        tails: Each part's future.
        units: U.

    Returns:
        What is certain.
    """
    never, surely, margin = np.zeros(units, np.bool_), np.zeros(units, np.bool_), np.zeros(units)
    step = max(1, ENTRIES // max(1, len(samples.features)))
    for start in range(0, units, step):
        rows = slice(start, min(start + step, units))
        sums = partial_sums(samples, tails, rows)
        rest = _rest(samples, tails, rows)
        best = np.max([total.max(axis=0) for total in (t + rest for _, t in sums)], axis=0)
        never[rows] = best <= 0
        surely[rows] = (sums[0][1] - rest).max(axis=0) > 0
        size = samples.size([_size(tail, rows) for tail in tails])
        margin[rows] = np.divide(-best, size, out=np.zeros_like(best), where=size > 0)
    return Future(never=never, surely=surely, margin=margin)


def partial_sums(samples: Samples, tails: Sequence[Tail], rows: slice) -> list[tuple[float, Exact]]:
    """Rates, slowest first, each with its partial sum T_i of shape (N, rows)."""
    by_rate: dict[float, Exact] = {}
    if samples.threshold:
        by_rate[1.0] = np.full((1, rows.stop - rows.start), -samples.threshold)
    for index, tail in enumerate(tails):
        for mode in tail.modes:
            added = samples.part(index, mode.values[rows])
            by_rate[mode.rate] = by_rate[mode.rate] + added if mode.rate in by_rate else added
    sums: list[tuple[float, Exact]] = []
    total = np.zeros((1, 1))
    for rate in sorted(by_rate, reverse=True):
        total = total + by_rate[rate]
        sums.append((rate, total))
    return sums


def first_return(samples: Samples, tails: Sequence[Tail], unit: int, limit: int) -> int | None:
    """Steps after which the modes alone make a unit fire, found by doubling and bisection.

    Exact in real arithmetic for two rates, where a sample that fires goes on firing until it gets a
    gradient; with more rates it is an upper bound of the first return.

    Args:
        samples: The kept samples.
        tails: Each part's future, at constant rates.
        unit: Which unit.
        limit: Steps to look ahead.

    Returns:
        The steps, at least 1; None if it does not fire within the limit.
    """
    sums = partial_sums(samples, tails, slice(unit, unit + 1))
    rates = np.array([rate for rate, _ in sums]) / sums[0][0]
    totals = np.stack(np.broadcast_arrays(*[total[:, 0] for _, total in sums]))
    modes = np.diff(totals, axis=0, prepend=0.0)

    def fires(steps: int) -> bool:
        return bool(np.max((rates**steps) @ modes) > 0)

    after, before = 1, 0
    while not fires(after):
        if after >= limit:
            return None
        before, after = after, min(2 * after, limit)
    while after - before > 1:
        middle = (after + before) // 2
        before, after = (before, middle) if fires(middle) else (middle, after)
    return after


def _rest(samples: Samples, tails: Sequence[Tail], rows: slice) -> Exact:
    """Bound of what is not in the modes, sample by sample, shape (N, rows) or (1, rows)."""
    total = np.zeros((1, 1))
    for columns, tail in zip(samples.columns, tails, strict=True):
        rest = tail.rest[rows] if tail.rest.shape[0] > 1 or tail.rest.any() else tail.rest
        if not rest.any():
            continue
        total = total + (rest.T if columns is None else np.abs(samples.features[:, columns]) @ rest.T)
    return np.asarray(np.where(np.isnan(total), np.inf, total))


def _size(tail: Tail, rows: slice) -> Exact:
    """Sum of the modes' sizes, entry by entry."""
    return np.asarray(sum(np.abs(mode.values[rows]) for mode in tail.modes))
