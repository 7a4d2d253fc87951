"""Parametric ReLU: the slope is learned."""

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Options


class PRelu(Activation):
    """z for z > 0, weight * z otherwise; the weight is a tensor, 0.25 at first."""

    name = "prelu"
    operations = ("PreluKernelBackward0",)
    saves = "self"
    backward_gain = 1.3720

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        return np.where(z > 0, z, z * options.get("weight", 0.25))

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        return np.where(z > 0, 1.0, options.get("weight", 0.25))
