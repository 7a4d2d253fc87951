"""Logistic sigmoid."""

import math

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options
from defib.core.logistic import expit

_LOW = {
    "float16": -17.34375,
    "bfloat16": -89.0,
    "float32": -88.72283935546875,
    "float64": -709.7827128933841,
}
_HIGH = {
    "float16": 8.3203125,
    "bfloat16": 6.25,
    "float32": 16.63553237915039,
    "float64": 36.73680056967711,
}
"""Where sigmoid(z) rounds to 0 and to 1, by dtype, measured (torch 2.13, CPU, vectorised path)."""


class Sigmoid(Activation):
    """1 / (1 + exp(-z)); the node keeps the result h, and the derivative is h (1 - h), at most 1/4."""

    name = "sigmoid"
    operations = ("SigmoidBackward0",)
    saves = "result"
    bounded = True
    backward_gain = 4.7226

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return expit(z)

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return expit(z) * expit(-z)

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        del options
        return Limits(low=0.0, high=1.0) if saved == "result" else Limits(low=_LOW[dtype], high=_HIGH[dtype])

    def saturated(self, saved: str, dtype: str, options: Options) -> Limits:
        del dtype, options
        low = 0.5 - math.sqrt(0.25 - 0.0025)
        if saved == "result":
            return Limits(low=low, high=1.0 - low)
        edge = math.log((1.0 - low) / low)
        return Limits(low=-edge, high=edge)
