"""Exponential linear unit; SELU shares its node and lives beside it."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options
from defib.core.exponential import exponential_flat, exponential_saturated


def _constants(options: Options) -> tuple[float, float, float]:
    """alpha, scale and the factor on z inside the exponential."""
    return options.get("alpha", 1.0), options.get("scale", 1.0), options.get("input_scale", 1.0)


class Elu(Activation):
    """z for z > 0, alpha (exp z - 1) otherwise, times a scale; never exactly flat but for rounding."""

    name = "elu"
    operations = ("EluBackward0", "EluBackward1")
    saves: ClassVar[Mapping[str, str]] = {"EluBackward0": "self", "EluBackward1": "result"}
    backward_gain = 1.2234

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        alpha, scale, rate = _constants(options)
        return scale * np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0) * rate))

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        alpha, scale, rate = _constants(options)
        return scale * np.where(z > 0, 1.0, alpha * rate * np.exp(np.minimum(z, 0.0) * rate))

    def applies(self, options: Options) -> bool:
        return options.get("scale", 1.0) == 1.0

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        return exponential_flat(saved, dtype, *_constants(options))

    def saturated(self, saved: str, dtype: str, options: Options) -> Limits:
        return exponential_saturated(saved, dtype, *_constants(options))
