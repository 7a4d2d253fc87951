"""Leaky ReLU: a small slope instead of none."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options


class LeakyRelu(Activation):
    """z for z > 0, slope * z otherwise; alive everywhere unless the slope is 0."""

    name = "leaky_relu"
    operations = ("LeakyReluBackward0", "LeakyReluBackward1")
    saves: ClassVar[Mapping[str, str]] = {"LeakyReluBackward0": "self", "LeakyReluBackward1": "result"}
    backward_gain = 1.4141

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        return np.where(z > 0, z, z * options.get("negative_slope", 0.01))

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        return np.where(z > 0, 1.0, options.get("negative_slope", 0.01))

    def may_die(self, options: Options) -> bool:
        return options.get("negative_slope", 0.01) == 0

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        del saved, dtype
        return Limits(low=0.0) if self.may_die(options) else Limits()
