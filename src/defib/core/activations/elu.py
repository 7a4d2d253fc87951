"""Exponential linear unit; SELU shares its node and lives beside it."""

from collections.abc import Mapping
from typing import ClassVar

from defib.core.activation import Options
from defib.core.exponential import Exponential


class Elu(Exponential):
    """z for z > 0, alpha (exp z - 1) otherwise, times a scale; never exactly flat but for rounding."""

    name = "elu"
    operations = ("EluBackward0", "EluBackward1")
    saves: ClassVar[Mapping[str, str]] = {"EluBackward0": "self", "EluBackward1": "result"}
    backward_gain = 1.2234

    def constants(self, options: Options) -> tuple[float, float, float]:
        return options.get("alpha", 1.0), options.get("scale", 1.0), options.get("input_scale", 1.0)

    def applies(self, options: Options) -> bool:
        return options.get("scale", 1.0) == 1.0
