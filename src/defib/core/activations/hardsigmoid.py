"""Piecewise linear sigmoid."""

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options


class Hardsigmoid(Activation):
    """z / 6 + 1/2 clipped to [0, 1]; flat for abs(z) >= 3."""

    name = "hardsigmoid"
    operations = ("HardsigmoidBackward0",)
    saves = "self"
    bounded = True
    can_die = True
    backward_gain = 6.0081

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return np.clip(z / 6.0 + 0.5, 0.0, 1.0)

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return (np.abs(z) < 3.0) / 6.0

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        del saved, dtype, options
        return Limits(low=-3.0, high=3.0)
