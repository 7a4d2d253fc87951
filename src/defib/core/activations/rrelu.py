"""Randomised leaky ReLU."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Options


class RRelu(Activation):
    """z for z > 0, a random slope times z otherwise; the mean slope is used here, as in evaluation."""

    name = "rrelu"
    operations = ("RreluWithNoiseBackward0", "RreluWithNoiseBackward1")
    saves: ClassVar[Mapping[str, str]] = {
        "RreluWithNoiseBackward0": "self",
        "RreluWithNoiseBackward1": "result",
    }
    backward_gain = 1.3785

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        return z * self.derivative(z, options)

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        slope = (options.get("lower", 1 / 8) + options.get("upper", 1 / 3)) / 2
        return np.where(z > 0, 1.0, slope)
