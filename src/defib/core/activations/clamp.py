"""``torch.clamp`` with number bounds: ``x.clamp(min=0)`` is a ReLU that lives at 0."""

import math

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options
from defib.core.precision import above, below


def _bounds(options: Options) -> tuple[float, float]:
    """Lower and upper bound; a node without any is taken for clamp(min=0)."""
    if "min" not in options and "max" not in options:
        return 0.0, math.inf
    return options.get("min", -math.inf), options.get("max", math.inf)


class Clamp(Activation):
    """z clipped to [min, max], each of which may be missing; derivative 1 at the bounds, unlike ReLU."""

    name = "clamp"
    operations = ("ClampBackward1", "ClampMinBackward0", "ClampMaxBackward0")
    saves = "self"
    bounded = True
    can_die = True
    backward_gain = 1.4142

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        return np.clip(z, *_bounds(options))

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        low, high = _bounds(options)
        return ((z >= low) & (z <= high)).astype(np.float64)

    def is_bounded(self, options: Options) -> bool:
        low, high = _bounds(options)
        return math.isfinite(low) and math.isfinite(high)

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        del saved
        low, high = _bounds(options)
        return Limits(low=below(low, dtype), high=above(high, dtype))
