"""``torch.maximum``: likely a ReLU written by hand, ``maximum(z, 0)``."""

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options
from defib.core.precision import below


class Maximum(Activation):
    """max(z, 0) with derivative 1/2 at z = 0; the other operand is taken to be 0, which is likely."""

    name = "maximum"
    operations = ("MaximumBackward0",)
    saves = "self"
    can_die = True
    backward_gain = 1.4142

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return np.maximum(z, 0.0)

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        del options
        return np.where(z > 0, 1.0, np.where(z == 0, 0.5, 0.0))

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        del saved, options
        return Limits(low=below(0.0, dtype))
