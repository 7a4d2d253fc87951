"""How far computed numbers can be from exact ones.

A sum or inner product of n terms, computed in any order with unit roundoff u, is off by at most
gamma_n sum |terms|, with gamma_n = n u / (1 - n u) (Higham 2002, section 3.1). This does not hold for
fast algorithms that combine inputs first (Winograd convolution) or for products in reduced
precision (TF32).
"""

import torch
from torch import Tensor

U64 = 2.0**-53
"""Unit roundoff of float64, in which the bounds themselves are computed."""

_UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
_TINY = {
    torch.float64: 2.0**-1074,
    torch.float32: 2.0**-149,
    torch.float16: 2.0**-24,
    torch.bfloat16: 2.0**-133,
}
_SINGLE = 2.0**-24


def gamma(n: int, unit: float) -> float:
    """gamma_n = n u / (1 - n u), rounded up; inf where it is not defined."""
    product = n * unit
    return product / (1 - product) * (1 + 8 * U64) if product < 0.5 else float("inf")


def unit_of(dtype: torch.dtype) -> float:
    """Unit roundoff of a floating-point format; that of bfloat16 for one that is not known."""
    return _UNIT.get(dtype, 2.0**-8)


def tiny_of(dtype: torch.dtype) -> float:
    """Smallest positive number of a format: what a single underflow can lose at most, rounded up."""
    return _TINY.get(dtype, 2.0**-24)


def product_error(n: int, dtype: torch.dtype) -> float:
    """Relative error of an inner product of n terms in the model's own format.

    Formats of half width add up in float32 and round the result: torch's default on CPU and GPU.

    Returns:
        A factor for sum |terms|.
    """
    if dtype in {torch.float16, torch.bfloat16}:
        return gamma(n + 2, _SINGLE) + gamma(4, unit_of(dtype))
    return gamma(n + 2, unit_of(dtype))


def outward(low: Tensor, high: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """Both ends moved out by an error and the rounding of doing so; NaN becomes infinite.

    Args:
        low: Lower ends, any shape, float64.
        high: Upper ends.
        error: What they can be off by, not negative; a shape that can be stretched to theirs.

    Returns:
        The new ends.
    """
    down = torch.nextafter(low - error, low.new_tensor(-torch.inf))
    up = torch.nextafter(high + error, high.new_tensor(torch.inf))
    return torch.nan_to_num(down, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf), torch.nan_to_num(
        up, nan=torch.inf, posinf=torch.inf, neginf=-torch.inf
    )
