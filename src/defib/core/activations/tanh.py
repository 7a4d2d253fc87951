"""Hyperbolic tangent."""

import math

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options

_FLAT = {
    "float16": 4.5078125,
    "bfloat16": 3.46875,
    "float32": 9.01084041595459,
    "float64": 19.061555615949707,
}
"""The |z| at which tanh(z) rounds to 1, by dtype, measured (torch 2.13, CPU, vectorised path)."""


class Tanh(Activation):
    """tanh(z); the node keeps the result h, and the derivative is 1 - h^2."""

    name = "tanh"
    operations = ("TanhBackward0",)
    saves = "result"
    bounded = True
    backward_gain = 1.4674

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return np.tanh(z)

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return 1.0 - np.tanh(z) ** 2

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        del options
        edge = 1.0 if saved == "result" else _FLAT[dtype]
        return Limits(low=-edge, high=edge)

    def saturated(self, saved: str, dtype: str, options: Options) -> Limits:
        del dtype, options
        edge = math.sqrt(0.99) if saved == "result" else math.atanh(math.sqrt(0.99))
        return Limits(low=-edge, high=edge)
