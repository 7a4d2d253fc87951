"""Rectified linear unit, and every spelling of it."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options
from defib.core.precision import at_most, nearest


class Relu(Activation):
    """max(z, 0), with derivative 0 at z = 0 as ``torch.relu`` has it."""

    name = "relu"
    operations = ("ReluBackward0", "ThresholdBackward0", "ThresholdBackward1")
    saves: ClassVar[Mapping[str, str]] = {
        "ReluBackward0": "result",
        "ThresholdBackward0": "self",
        "ThresholdBackward1": "self",
    }
    can_die = True
    backward_gain = 1.4142

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        return np.where(z > options.get("threshold", 0.0), z, 0.0)

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        return (z > options.get("threshold", 0.0)).astype(np.float64)

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        if saved == "result":
            return Limits(low=0.0)
        threshold = options.get("threshold", 0.0)
        return Limits(low=nearest(threshold, dtype) if dtype == "float32" else at_most(threshold, dtype))
