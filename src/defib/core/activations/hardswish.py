"""Piecewise quadratic swish (Howard et al. 2019)."""

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options


class Hardswish(Activation):
    """z * hardsigmoid(z); flat for z <= -3 (and at the single point z = -1.5)."""

    name = "hardswish"
    operations = ("HardswishBackward0",)
    saves = "self"
    can_die = True
    backward_gain = 1.6701

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return z * np.clip(z / 6.0 + 0.5, 0.0, 1.0)

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return np.where(z >= 3.0, 1.0, np.where(z <= -3.0, 0.0, z / 3.0 + 0.5))

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        del saved, dtype, options
        return Limits(low=-3.0)
