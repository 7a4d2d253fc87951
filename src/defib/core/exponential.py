"""Where the exponential branch shared by ELU, SELU and CELU goes flat.

For z <= 0 the branch is h = s a (exp(r z) - 1), so h' = s a r exp(r z) = r (h + s a).
"""

import math

from defib.core.activation import Limits
from defib.core.precision import LOG_UNDERFLOW, at_most, nearest


def exponential_flat(saved: str, dtype: str, alpha: float, scale: float, rate: float) -> Limits:
    """Where autograd's derivative is exactly 0.

    In the half types only the finished product is rounded to the grid; in
    float32 and float64 the exponential itself underflows first. From the result
    h the sum h + s a is formed, which is 0 only if s a lies on the tensor's grid
    (half types add in float32).

    Args:
        saved: "self" (z) or "result" (h).
        dtype: Of the tensor.
        alpha: a above.
        scale: s above.
        rate: r above.

    Returns:
        Its lower limit.
    """
    if saved == "result":
        bottom = -alpha * scale
        met = dtype in {"float32", "float64"} or nearest(bottom, dtype) == bottom
        return Limits(low=nearest(bottom, dtype)) if met else Limits()
    at_zero = math.log(alpha * scale * rate) if alpha * scale * rate > 0 else 0.0
    halved = dtype in {"float16", "bfloat16"}
    return Limits(
        low=at_most((LOG_UNDERFLOW[dtype] - (at_zero if halved else min(at_zero, 0.0))) / rate, dtype)
    )


def exponential_saturated(saved: str, dtype: str, alpha: float, scale: float, rate: float) -> Limits:
    """Where the derivative is below 1 % of its largest value; arguments as in :func:`exponential_flat`."""
    del dtype
    at_zero = alpha * scale * rate
    small = 0.01 * max(scale, at_zero)
    if saved == "result":
        return Limits(low=small / rate - alpha * scale)
    return Limits(low=math.log(small / at_zero) / rate if at_zero > 0 else 0.0)
