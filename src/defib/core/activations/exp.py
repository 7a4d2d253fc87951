"""The exponential used as an activation."""

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options


class Exp(Activation):
    """exp(z): its own derivative, so it underflows on the left and overflows on the right."""

    name = "exp"
    operations = ("ExpBackward0",)
    saves = "result"
    backward_gain = 0.3679

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return np.exp(z)

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return np.exp(z)

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        del dtype, options
        return Limits(low=0.0) if saved == "result" else Limits()
