"""Mish (Misra 2019)."""

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options
from defib.core.logistic import expit

_FLAT = {
    "float16": -20.296875,
    "bfloat16": -93.0,
    "float32": -102.87346649169922,
    "float64": -744.0346068132732,
}
"""Where autograd's derivative becomes exactly 0, by dtype, measured (torch 2.13, CPU, vectorised path)."""


class Mish(Activation):
    """z * tanh(softplus(z))."""

    name = "mish"
    operations = ("MishBackward0",)
    saves = "self"
    backward_gain = 1.4448

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return z * np.tanh(np.logaddexp(0.0, z))

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        t = np.tanh(np.logaddexp(0.0, z))
        return t + z * (1.0 - t * t) * expit(z)

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        del saved, options
        return Limits(low=_FLAT[dtype])

    def saturated(self, saved: str, dtype: str, options: Options) -> Limits:
        del saved, dtype, options
        return Limits(low=-6.159)
