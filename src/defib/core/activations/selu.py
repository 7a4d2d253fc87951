"""Self-normalising ELU: an ELU with two fixed constants (Klambauer et al. 2017)."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options
from defib.core.exponential import exponential_flat, exponential_saturated


def _constants(options: Options) -> tuple[float, float, float]:
    """alpha, scale and the factor on z inside the exponential."""
    alpha = options.get("alpha", 1.6732632423543772)
    return alpha, options.get("scale", 1.0507009873554805), options.get("input_scale", 1.0)


class Selu(Activation):
    """1.0507 * ELU with alpha = 1.6733; found by the scale of the ELU node that it shares."""

    name = "selu"
    operations = ("EluBackward0", "EluBackward1")
    saves: ClassVar[Mapping[str, str]] = {"EluBackward0": "self", "EluBackward1": "result"}
    backward_gain = 0.9660

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        alpha, scale, rate = _constants(options)
        return scale * np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0) * rate))

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        alpha, scale, rate = _constants(options)
        return scale * np.where(z > 0, 1.0, alpha * rate * np.exp(np.minimum(z, 0.0) * rate))

    def applies(self, options: Options) -> bool:
        return options.get("scale", 1.0) != 1.0

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        return exponential_flat(saved, dtype, *_constants(options))

    def saturated(self, saved: str, dtype: str, options: Options) -> Limits:
        return exponential_saturated(saved, dtype, *_constants(options))
