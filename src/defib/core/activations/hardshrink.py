"""Hardshrink: 0 near 0, and only there."""

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Options


class Hardshrink(Activation):
    """z where abs(z) > lambd, 0 otherwise; flat in the middle, which no pair of limits can say."""

    name = "hardshrink"
    operations = ("HardshrinkBackward0",)
    saves = "self"
    backward_gain = 1.2730

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        lambd = options.get("lambd", 0.5)
        return np.where(np.abs(z) > lambd, z, 0.0)

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        return (np.abs(z) > options.get("lambd", 0.5)).astype(np.float64)
