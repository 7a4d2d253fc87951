"""Two numbers by which a forward pass is known again when it is repeated."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

TOLERANCE = 1e-3
"""Repeated passes agree to rounding; this allows for kernels that add in another order in float16."""


def output_tensors(output: Any) -> list[torch.Tensor]:
    """All tensors in what a module gave, in order; a library's own output class is a mapping at least."""
    if isinstance(output, torch.Tensor):
        return [output]
    plain = dict(output) if isinstance(output, Mapping) else output
    return [t for t in pytree.tree_leaves(plain) if isinstance(t, torch.Tensor)]


def witness(output: Any) -> torch.Tensor | None:
    """Sum and Euclidean norm of the first floating-point tensor, shape (2,), float64; None without one."""
    found = (t for t in output_tensors(output) if t.is_floating_point() and t.layout is torch.strided)
    tensor = next(found, None)
    if tensor is None or not tensor.numel():
        return None
    values = tensor.detach().double()
    return torch.stack([values.sum(), torch.linalg.vector_norm(values)])


def agree(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    """Whether two passes gave the same; unknown counts as yes, and so does NaN in both."""
    if one is None or other is None:
        return True
    scale = float(torch.maximum(one[1], other[1]))
    difference = float((one - other.to(one.device)).abs().max())
    return difference <= TOLERANCE * scale or (math.isnan(scale) and math.isnan(difference))
