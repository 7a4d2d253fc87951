"""Logarithm of the sigmoid."""

import math

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options
from defib.core.logistic import expit
from defib.core.precision import LOG_UNDERFLOW, at_least


class LogSigmoid(Activation):
    """-log(1 + exp(-z)), whose derivative sigmoid(-z) vanishes for large z."""

    name = "logsigmoid"
    operations = ("LogSigmoidBackward0",)
    saves = "self"
    backward_gain = 1.8462

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return -np.logaddexp(0.0, -z)

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return expit(-z)

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        del saved, options
        return Limits(high=at_least(-LOG_UNDERFLOW[dtype], dtype))

    def saturated(self, saved: str, dtype: str, options: Options) -> Limits:
        del saved, dtype, options
        return Limits(high=math.log(0.99 / 0.01))
