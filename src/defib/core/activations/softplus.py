"""Softplus, a smooth ReLU."""

import math

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options
from defib.core.logistic import expit
from defib.core.precision import LOG_UNDERFLOW, at_most


class Softplus(Activation):
    """log(1 + exp(beta z)) / beta; linear above the threshold."""

    name = "softplus"
    operations = ("SoftplusBackward0",)
    saves = "self"
    backward_gain = 1.8462

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        beta, threshold = options.get("beta", 1.0), options.get("threshold", 20.0)
        return np.where(z * beta > threshold, z, np.logaddexp(0.0, z * beta) / beta)

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        beta, threshold = options.get("beta", 1.0), options.get("threshold", 20.0)
        return np.where(z * beta > threshold, 1.0, expit(z * beta))

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        del saved
        return Limits(low=at_most(LOG_UNDERFLOW[dtype] / options.get("beta", 1.0), dtype))

    def saturated(self, saved: str, dtype: str, options: Options) -> Limits:
        del saved, dtype
        return Limits(low=math.log(0.01 / 0.99) / options.get("beta", 1.0))
