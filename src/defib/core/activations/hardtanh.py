"""Hard tanh, and ReLU6, which is a hard tanh from 0 to 6."""

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options
from defib.core.precision import at_least, at_most, nearest


class Hardtanh(Activation):
    """z clipped to [min_val, max_val], with derivative 0 at both ends as PyTorch has it."""

    name = "hardtanh"
    operations = ("HardtanhBackward0",)
    saves = "self"
    bounded = True
    can_die = True
    backward_gain = 1.2103

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        return np.clip(z, options.get("min_val", -1.0), options.get("max_val", 1.0))

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        low, high = options.get("min_val", -1.0), options.get("max_val", 1.0)
        return ((z > low) & (z < high)).astype(np.float64)

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        del saved
        low, high = options.get("min_val", -1.0), options.get("max_val", 1.0)
        if dtype == "float32":
            return Limits(low=nearest(low, dtype), high=nearest(high, dtype))
        return Limits(low=at_most(low, dtype), high=at_least(high, dtype))  # halves are compared in float32
