"""Softmax along an axis."""

import math

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Options


class Softmax(Activation):
    """exp(z) / sum exp(z); not elementwise: the derivative is the diagonal p (1 - p) of its Jacobian."""

    name = "softmax"
    operations = ("SoftmaxBackward0",)
    saves = "result"
    backward_gain = math.nan

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        e = np.exp(z - z.max(axis=-1, keepdims=True))
        return np.asarray(e / e.sum(axis=-1, keepdims=True))

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        p = self.forward(z, options)
        return p * (1.0 - p)
