"""Activations with an exponential branch: ELU, SELU and CELU, which differ in their constants.

f(z) = s z for z > 0 and s a (exp(r z) - 1) otherwise. In that branch f'(z) = s a r exp(r z) = r (f(z) + s a).
"""

import math
from abc import abstractmethod

import numpy as np

from defib.core.activation import DEFAULTS, Activation, Array, Limits, Options
from defib.core.precision import LOG_UNDERFLOW, at_most, nearest


class Exponential(Activation):
    """One of them, by its constants."""

    @abstractmethod
    def constants(self, options: Options) -> tuple[float, float, float]:
        """The branch's height a, the scale s of both branches, and the rate r."""

    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        alpha, scale, rate = self.constants(options)
        return scale * np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0) * rate))

    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        alpha, scale, rate = self.constants(options)
        return scale * np.where(z > 0, 1.0, alpha * rate * np.exp(np.minimum(z, 0.0) * rate))

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        """Where autograd's derivative is exactly 0.

        In the half types only the finished product is rounded to the grid; in
        float32 and float64 the exponential itself underflows first. From the result
        h the sum h + s a is formed, which is 0 only if s a lies on the tensor's grid
        (half types add in float32).

        Args:
            saved: "self" (z) or "result" (h).
            dtype: Of the tensor.
            options: The activation's constants.

        Returns:
            Its lower limit.
        """
        alpha, scale, rate = self.constants(options)
        if saved == "result":
            bottom = -alpha * scale
            met = dtype in {"float32", "float64"} or nearest(bottom, dtype) == bottom
            return Limits(low=nearest(bottom, dtype)) if met else Limits()
        at_zero = math.log(alpha * scale * rate) if alpha * scale * rate > 0 else 0.0
        halved = dtype in {"float16", "bfloat16"}
        return Limits(
            low=at_most((LOG_UNDERFLOW[dtype] - (at_zero if halved else min(at_zero, 0.0))) / rate, dtype)
        )

    def saturated(self, saved: str, dtype: str, options: Options) -> Limits:
        """Where the derivative is below 1 % of its largest value; arguments as in :meth:`flat`."""
        del dtype
        alpha, scale, rate = self.constants(options)
        at_zero = alpha * scale * rate
        small = 0.01 * max(scale, at_zero)
        if saved == "result":
            return Limits(low=small / rate - alpha * scale)
        return Limits(low=math.log(small / at_zero) / rate if at_zero > 0 else 0.0)
