"""Self-normalising ELU: an ELU with two fixed constants (Klambauer et al. 2017)."""

from collections.abc import Mapping
from typing import ClassVar

from defib.core.activation import Options
from defib.core.exponential import Exponential


class Selu(Exponential):
    """1.0507 * ELU with alpha = 1.6733; found by the scale of the ELU node that it shares."""

    name = "selu"
    operations = ("EluBackward0", "EluBackward1")
    saves: ClassVar[Mapping[str, str]] = {"EluBackward0": "self", "EluBackward1": "result"}
    backward_gain = 0.9660

    def constants(self, options: Options) -> tuple[float, float, float]:
        alpha = options.get("alpha", 1.6732632423543772)
        return alpha, options.get("scale", 1.0507009873554805), options.get("input_scale", 1.0)

    def applies(self, options: Options) -> bool:
        return options.get("scale", 1.0) != 1.0
