"""Absolute value used as an activation."""

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Options


class Abs(Activation):
    """abs(z), with derivative 0 at z = 0."""

    name = "abs"
    operations = ("AbsBackward0",)
    saves = "self"
    backward_gain = 1.0

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return np.abs(z)

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return np.sign(z)
