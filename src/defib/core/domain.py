"""Sets of inputs on which something is proved: a box, an ellipsoid, or everything.

Letters: ``d`` entries of one sample, ``r`` directions of an ellipsoid.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defib.core.errors import UsageError

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Box:
    """All samples x with low <= x <= high, entry by entry.

    Attributes:
        low: A number, or an array that can be stretched to the shape of one sample.
        high: Likewise.
    """

    low: ArrayLike
    high: ArrayLike

    def ends(self, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Lower and upper ends, each of the shape of one sample.

        Returns:
            Two arrays of that shape.

        Raises:
            UsageError: If they do not fit that shape, hold NaN, or low > high somewhere.
        """
        low, high = _stretched("low", self.low, shape), _stretched("high", self.high, shape)
        if np.isnan(low).any() or np.isnan(high).any():
            raise UsageError("the box has an end that is no number")
        if (low > high).any():
            place = tuple(int(i) for i in np.argwhere(low > high)[0])
            where = f" at {place}" if place else ""
            raise UsageError(f"the box is empty: low {low[place]:.6g} > high {high[place]:.6g}{where}")
        return low, high


@dataclass(frozen=True, kw_only=True, eq=False)
class Ellipsoid:
    """All samples x = center + axes z with |z| <= 1 (Euclidean); a ball is the case of one radius.

    Attributes:
        center: A number, or an array that can be stretched to the shape of one sample.
        axes: A radius; or radii, as an array that can be stretched to that shape; or a matrix of
            shape (d, r) whose columns are the half axes, for flattened samples of d entries.
    """

    center: ArrayLike
    axes: ArrayLike

    def parts(self, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """The ellipsoid for flattened samples.

        Returns:
            The center, shape (d,), and radii of shape (d,) or axes of shape (d, r).

        Raises:
            UsageError: If they do not fit one sample, are not finite, or a radius is negative.
        """
        center = _stretched("center", self.center, shape).reshape(-1)
        axes = np.asarray(self.axes, dtype=np.float64)
        if not (axes.ndim == 2 and axes.shape[0] == center.size and axes.shape != shape):
            axes = _stretched("axes", axes, shape).reshape(-1)
            if (axes < 0).any():
                raise UsageError("the ellipsoid has a negative radius")
        if not (np.isfinite(center).all() and np.isfinite(axes).all()):
            raise UsageError("the ellipsoid's center and axes are to be finite numbers")
        return center, axes


@dataclass(frozen=True, kw_only=True)
class Everything:
    """Every input there is: any finite numbers, any entries of the vocabulary."""


@dataclass(frozen=True, kw_only=True)
class DataRange:
    """The box between the smallest and the largest value of each entry over a batch.

    Attributes:
        margin: How far the box is widened, as a share of each entry's range on either side.
    """

    margin: float = 0.0


Domain = Box | Ellipsoid | Everything | DataRange


def domain_of(text: str) -> Domain | None:
    """A domain as it is written on the command line.

    Args:
        text: ``data``, ``data+10%`` (the range, widened), ``any``, ``LOW:HIGH`` (a box) or
            ``ball:CENTER:RADIUS``.

    Returns:
        The domain; None if it is none of these but may name a factory, ``module:name``.

    Raises:
        UsageError: If it is nothing of the kind, or its numbers make no sense.
    """
    word, _, rest = text.strip().partition("+")
    if word == "data":
        if rest and not rest.endswith("%"):
            raise UsageError(f"a margin is written as data+10%, not {text!r}")
        return DataRange(margin=_numbers(rest.removesuffix("%"), 1, text)[0] / 100 if rest else 0.0)
    if text == "any":
        return Everything()
    if text.startswith("ball:"):
        center, radius = _numbers(text.removeprefix("ball:"), 2, text)
        return Ellipsoid(center=center, axes=radius)
    parts = text.split(":")
    if len(parts) == 2 and all(part.replace("_", "a").replace(".", "a").isidentifier() for part in parts):
        return None
    low, high = _numbers(text, 2, text)
    box = Box(low=low, high=high)
    box.ends(())
    return box


def _numbers(text: str, count: int, whole: str) -> list[float]:
    """Numbers with colons between them."""
    try:
        found = [float(part) for part in text.split(":")]
    except ValueError:
        found = []
    if len(found) != count or not np.isfinite(found).all():
        raise UsageError(
            f"a domain is written as data, data+10%, any, LOW:HIGH, ball:CENTER:RADIUS or module:factory, "
            f"not {whole!r}"
        )
    return found


def range_of(samples: Array, margin: float = 0.0) -> Box:
    """The box of a batch.

    Args:
        samples: Shape (N, ...), N >= 1.
        margin: As in :class:`DataRange`.

    Returns:
        A box whose ends have the shape of one sample.

    Raises:
        UsageError: If there is no sample, one is not finite, or the margin is negative.
    """
    if not margin >= 0:
        raise UsageError(f"a margin is a number from 0 on, not {margin}")
    if len(samples) == 0:
        raise UsageError("the batch holds no sample to take the data's range from")
    if not np.isfinite(samples).all():
        raise UsageError("the batch holds numbers that are not finite; it has no range")
    low, high = samples.min(axis=0), samples.max(axis=0)
    room = margin * (high - low)
    return Box(low=low - room, high=high + room)


def _stretched(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Array:
    """An array of the shape of one sample."""
    try:
        given = np.asarray(value, dtype=np.float64)
        return np.array(np.broadcast_to(given, shape))
    except (TypeError, ValueError):
        what = f"of shape {tuple(np.shape(value))}" if not isinstance(value, str) else repr(value)
        raise UsageError(f"the domain's {name} {what} does not fit a sample of shape {shape}") from None
