"""Softshrink: 0 near 0, and only there."""

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Options


class Softshrink(Activation):
    """z pulled to 0 by lambd; flat in the middle, which no pair of limits can say."""

    name = "softshrink"
    operations = ("SoftshrinkBackward0",)
    saves = "self"
    backward_gain = 1.2730

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        lambd = options.get("lambd", 0.5)
        return np.sign(z) * np.maximum(np.abs(z) - lambd, 0.0)

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        return (np.abs(z) > options.get("lambd", 0.5)).astype(np.float64)
