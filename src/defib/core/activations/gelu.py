"""Gaussian error linear unit."""

import math

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options

_FLAT = {
    "float16": -5.96875,
    "bfloat16": -6.15625,
    "float32": -6.151351451873779,
    "float64": -38.57550017338138,
}
_FLAT_TANH = {
    "float16": -5.0625,
    "bfloat16": -5.0625,
    "float32": -5.061380863189697,
    "float64": -7.145065874418114,
}
"""Where autograd's derivative becomes exactly 0, by dtype, measured (torch 2.13, CPU, vectorised path)."""

_ROOT = math.sqrt(2 / math.pi)
_CUBIC = 0.044715


def _inner(z: Array) -> Array:
    """The argument of the tanh in the approximation."""
    return _ROOT * (z + _CUBIC * z**3)


def _gaussian(z: Array) -> Array:
    """The standard normal distribution function."""
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return np.asarray(0.5 * (1.0 + erf(z / math.sqrt(2))))


class Gelu(Activation):
    """z * Phi(z), or its tanh approximation where the node's option "tanh" is 1."""

    name = "gelu"
    operations = ("GeluBackward0",)
    saves = "self"
    backward_gain = 1.4811

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        if options.get("tanh", 0.0):
            return 0.5 * z * (1.0 + np.tanh(_inner(z)))
        return z * _gaussian(z)

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        if options.get("tanh", 0.0):
            t = np.tanh(_inner(z))
            slope = _ROOT * (1.0 + 3 * _CUBIC * z**2)
            return 0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * slope
        return _gaussian(z) + z * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        del saved
        return Limits(low=(_FLAT_TANH if options.get("tanh", 0.0) else _FLAT)[dtype])

    def saturated(self, saved: str, dtype: str, options: Options) -> Limits:
        del saved, dtype, options
        return Limits(low=-3.0216)
