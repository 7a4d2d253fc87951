"""Log-softmax along an axis."""

import math

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Options


class LogSoftmax(Activation):
    """z - log sum exp(z); not elementwise: the derivative given is the diagonal 1 - p of its Jacobian."""

    name = "log_softmax"
    operations = ("LogSoftmaxBackward0",)
    saves = "result"
    backward_gain = math.nan

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        top = z.max(axis=-1, keepdims=True)
        return np.asarray(z - top - np.log(np.exp(z - top).sum(axis=-1, keepdims=True)))

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        return 1.0 - np.exp(self.forward(z, options))
