"""Continuously differentiable ELU."""

from collections.abc import Mapping
from typing import ClassVar

from defib.core.activation import Options
from defib.core.exponential import Exponential


class Celu(Exponential):
    """z for z > 0, alpha (exp(z / alpha) - 1) otherwise; slope 1 at 0 for every alpha."""

    name = "celu"
    operations = ("CeluBackward0", "CeluBackward1")
    saves: ClassVar[Mapping[str, str]] = {"CeluBackward0": "self", "CeluBackward1": "result"}
    backward_gain = 1.2234

    def constants(self, options: Options) -> tuple[float, float, float]:
        alpha = options.get("alpha", 1.0)
        return alpha, 1.0, 1.0 / alpha
