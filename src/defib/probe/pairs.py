"""How deep a difference between two inputs travels, measured on the network itself.

In a wide random network the correlation c of two inputs follows a map c -> F(c) from layer to layer,
and differences die out as F'(c*)^l: 1 / xi_c = -ln F'(c*) (Schoenholz et al. 2017). Here the pairs are
those of the batch's own samples. They are divided at the first layer into the more and the less alike,
and the slope of the map at layer l is the difference of both halves' mean correlation there over that
one layer before: a finite difference along the real network, with its real weights.

Letters: ``n`` samples, ``P`` pairs of them.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from defib.core.checkup import Reach

_MOST_SAMPLES = 128
_FEW_SAMPLES = 8
_NOISE = 3.0
"""A difference counts as long as it exceeds this many of its standard errors."""
_ROUNDING = 100.0
"""And as long as it exceeds this many spacings of the numbers: cosines lose two digits near 1."""


def cosines(values: Tensor) -> Tensor | None:
    """Cosines between the outputs of a layer for each two samples.

    Args:
        values: The outputs, samples first.

    Returns:
        Shape (P,), float64; None for too few samples, or outputs that are zero or no numbers.
    """
    rows = values.detach()[:_MOST_SAMPLES].flatten(1).double()
    size = rows.norm(dim=1, keepdim=True)
    if len(rows) < _FEW_SAMPLES or not bool((torch.isfinite(size) & (size > 0)).all()):
        return None
    unit = rows / size
    first, second = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    found: Tensor = (unit @ unit.T)[first, second].cpu()
    return found


def slopes(layers: Sequence[Tensor | None], precision: float) -> list[float]:
    """The slope of the correlation map into each layer.

    Args:
        layers: Cosines of the same pairs at each layer, shape (P,), in order of data flow.
        precision: Spacing of the numbers that the network computes in.

    Returns:
        One for each layer; NaN for the first one and wherever the difference is lost in noise.
    """
    found: list[float] = []
    alike, before = None, math.nan
    for pairs in layers:
        if pairs is None:
            alike, before = None, math.nan
            found.append(math.nan)
            continue
        alike = pairs > pairs.median() if alike is None else alike
        now = _difference(pairs[alike], pairs[~alike], precision)
        found.append(now / before)
        before = now
    return found


def _difference(high: Tensor, low: Tensor, precision: float) -> float:
    """Difference of two means; NaN if it could be chance. Pairs share samples: only those count as many."""
    if not len(high) or not len(low):
        return math.nan
    samples = math.sqrt(2 * (len(high) + len(low)))
    error = math.sqrt((float(high.var(correction=0)) + float(low.var(correction=0))) / samples)
    difference = float(high.mean() - low.mean())
    return difference if difference > max(_NOISE * error, _ROUNDING * precision) else math.nan


def reach(slopes: Sequence[float]) -> Reach | None:
    """6 xi_c from the deepest half of the slopes that could be told, and its standard error.

    Args:
        slopes: Layer by layer, NaN where unknown.

    Returns:
        The depth; None for fewer than two known slopes.
    """
    known = [math.log(s) for s in slopes if s > 0]
    if len(known) < 2:
        return None
    deep = known[-max(2, (len(known) + 1) // 2) :]
    mean = math.fsum(deep) / len(deep)
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in deep) / (len(deep) - 1))
    error = spread / math.sqrt(len(deep))
    return Reach(depth=_depth(mean), low=_depth(mean - error), high=_depth(mean + error), layers=len(deep))


def _depth(rate: float) -> float:
    return -6 / rate if rate < 0 else math.inf
