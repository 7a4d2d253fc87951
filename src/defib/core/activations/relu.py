"""Rectified linear unit, and every spelling of it."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from defib.core.activation import Activation, Array, Limits


class Relu(Activation):
    """max(z, 0), with derivative 0 at z = 0 as ``torch.relu`` has it."""

    name = "relu"
    operations = ("ReluBackward0", "ThresholdBackward0")
    saves: ClassVar[Mapping[str, str]] = {"ReluBackward0": "result", "ThresholdBackward0": "self"}
    can_die = True
    backward_gain = 1.4142

    def forward(self, z: Array) -> Array:
        return np.maximum(z, 0.0)

    def derivative(self, z: Array) -> Array:
        return (z > 0).astype(np.float64)

    def flat(self, saved: str, dtype: str, options: Mapping[str, float]) -> Limits:
        del saved, dtype
        return Limits(low=options.get("threshold", 0.0))
