"""The samples at one input: a box, an ellipsoid, everything; in float64.

Letters: ``d`` entries of one sample, ``r`` axes of an ellipsoid, ``K`` linear forms.
"""

import torch
from torch import Tensor

from defib.core.domain import Box, Domain, Ellipsoid, Everything
from defib.probe.certificates.rounding import U64, gamma
from defib.probe.certificates.steps import Known, Passed, cut, total


class BoxRegion:
    """low <= x <= high; the largest value of a form is at a corner.

    Args:
        low: Shape (1, ...).
        high: Shape (1, ...).
    """

    def __init__(self, low: Tensor, high: Tensor) -> None:
        self._low, self._high = low, high

    def ends(self) -> tuple[Tensor, Tensor]:
        """The box itself."""
        return self._low, self._high

    def largest(self, rows: Tensor) -> Passed:
        """Sum of positive coefficients times upper ends and negative ones times lower ends."""
        return cut(rows, Known.within(self._low, self._high))

    def holds(self, samples: Tensor) -> Tensor:
        """Which samples lie inside, shape (N,); samples of shape (N, ...)."""
        inside: Tensor = (samples >= self._low) & (samples <= self._high)
        return inside.flatten(1).all(1) if inside.dim() > 1 else inside


class EllipsoidRegion:
    """x = center + axes z with |z| <= 1: the largest value of w . x is w . center + |w axes|.

    Args:
        center: Shape (1, ...).
        axes: Radii of shape (d,), or columns of shape (d, r).
    """

    def __init__(self, center: Tensor, axes: Tensor) -> None:
        self._center, self._axes = center, axes
        reach = axes.abs() if axes.dim() == 1 else axes.norm(dim=1) * (1 + gamma(axes.shape[1] + 8, U64))
        self._reach = (reach * (1 + 8 * U64)).reshape(center.shape)

    def ends(self) -> tuple[Tensor, Tensor]:
        """The smallest box around it, rounded outward."""
        room = self._reach + 4 * U64 * self._center.abs() + 1e-300
        return self._center - room, self._center + room

    def largest(self, rows: Tensor) -> Passed:
        """The form at the center plus the length of its axes; |w axes| <= |w| |axes| bounds the rounding."""
        flat = rows.flatten(1)
        spread = flat * self._axes if self._axes.dim() == 1 else flat @ self._axes
        away = spread.norm(dim=1)
        most = total(rows.abs(), self._reach)
        width = self._axes.shape[-1] ** 0.5 if self._axes.dim() == 2 else 1.0
        return Passed(
            rows=(),
            constant=total(rows, self._center) + away,
            size=total(rows.abs(), self._center.abs()) + 2 * away + 2 * width * most,
        )

    def holds(self, samples: Tensor) -> Tensor:
        """Which samples lie inside, shape (N,); a point on the edge may be taken for one outside."""
        away = (samples.double() - self._center).flatten(1)
        if self._axes.dim() == 1:
            share = torch.where(self._axes > 0, away / self._axes, torch.where(away == 0, 0.0, torch.inf))
            held: Tensor = share.norm(dim=1) <= 1 - 1e-12
            return held
        found = torch.linalg.lstsq(self._axes, away.T).solution
        near: Tensor = (self._axes @ found - away.T).norm(dim=0) <= 1e-9 * (1 + away.norm(dim=1))
        inside: Tensor = near & (found.norm(dim=0) <= 1 - 1e-9)
        return inside


Region = BoxRegion | EllipsoidRegion


def region_of(domain: Domain, sample: Tensor) -> Region:
    """The region of one input.

    Args:
        domain: A box, an ellipsoid or everything; the data's range has become a box before.
        sample: One sample there, shape (1, ...): its shape counts, not its numbers.

    Returns:
        The region; for whole-numbered inputs (tokens) a box of indices.
    """
    shape = tuple(sample.shape[1:])
    if isinstance(domain, Ellipsoid):
        center, axes = (torch.from_numpy(p) for p in domain.parts(shape))
        return EllipsoidRegion(center.reshape(sample.shape), axes)
    wide = domain if isinstance(domain, Box) else Box(low=-float("inf"), high=float("inf"))
    low, high = (torch.from_numpy(e).reshape(sample.shape) for e in wide.ends(shape))
    return BoxRegion(low, high)


def in_words(domain: Domain) -> str:
    """The domain as a person would say it."""
    if isinstance(domain, Everything):
        return "every input"
    if isinstance(domain, Ellipsoid):
        return "an ellipsoid"
    if isinstance(domain, Box):
        import numpy as np

        low, high = np.asarray(domain.low), np.asarray(domain.high)
        same = low.size == 1 and high.size == 1
        return (
            f"the box [{low.item():g}, {high.item():g}]"
            if same
            else f"a box, {low.min():g} to {high.max():g}"
        )
    share = f", widened by {domain.margin:g} of it on either side" if domain.margin else ""
    return f"the range of the data{share}"
