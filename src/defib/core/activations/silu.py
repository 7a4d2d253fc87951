"""SiLU, also called swish."""

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options
from defib.core.logistic import expit

_FLAT = {
    "float16": -20.296875,
    "bfloat16": -89.0,
    "float32": -88.72283935546875,
    "float64": -709.7827128933841,
}
"""Where autograd's derivative becomes exactly 0, by dtype, measured (torch 2.13, CPU, vectorised path)."""


class Silu(Activation):
    """z * sigmoid(z); its derivative crosses 0 near z = -1.28 and stays small and negative below."""

    name = "silu"
    operations = ("SiluBackward0",)
    saves = "self"
    backward_gain = 1.6233

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return z * expit(z)

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        s = expit(z)
        return s * (1.0 + z * (1.0 - s))

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        del saved, options
        return Limits(low=_FLAT[dtype])

    def saturated(self, saved: str, dtype: str, options: Options) -> Limits:
        del saved, dtype, options
        return Limits(low=-6.143)
