"""Continuously differentiable ELU."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options
from defib.core.exponential import exponential_flat, exponential_saturated


class Celu(Activation):
    """z for z > 0, alpha (exp(z / alpha) - 1) otherwise; slope 1 at 0 for every alpha."""

    name = "celu"
    operations = ("CeluBackward0", "CeluBackward1")
    saves: ClassVar[Mapping[str, str]] = {"CeluBackward0": "self", "CeluBackward1": "result"}
    backward_gain = 1.2234

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        alpha = options.get("alpha", 1.0)
        return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0) / alpha))

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        alpha = options.get("alpha", 1.0)
        return np.where(z > 0, 1.0, np.exp(np.minimum(z, 0.0) / alpha))

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        alpha = options.get("alpha", 1.0)
        return exponential_flat(saved, dtype, alpha, 1.0, 1.0 / alpha)

    def saturated(self, saved: str, dtype: str, options: Options) -> Limits:
        alpha = options.get("alpha", 1.0)
        return exponential_saturated(saved, dtype, alpha, 1.0, 1.0 / alpha)
