"""Sizes of gradients, in float64: norms, inner products, and their ratios in decades."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Slots = dict[int, Tensor]
"""The gradient at a node's outputs, by output number."""


def real(tensor: Tensor) -> Tensor:
    """Its numbers in float64; a complex number counts as two."""
    tensor = tensor.detach()
    return (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor).double()


def norm(*grads: Tensor | None) -> float:
    """Euclidean norm over all entries of all tensors, in float64; 0 for none."""
    squares = [float(real(g).square().sum()) for g in grads if g is not None]
    return math.sqrt(math.fsum(squares)) if all(map(math.isfinite, squares)) else math.nan


def inner(a: Mapping[int, Tensor], b: Mapping[int, Tensor]) -> float:
    """Inner product over the slots that both have."""
    return math.fsum(float((a[k] * b[k]).sum()) for k in a if k in b)


def total(*parts: Mapping[int, Tensor]) -> Slots:
    """Slot by slot the sum of several gradients at one place."""
    found: Slots = {}
    for part in parts:
        for slot, value in part.items():
            found[slot] = found[slot] + value if slot in found else value
    return found


def decades(before: float, after: float) -> float:
    """log10(after / before); -inf where it becomes zero, 0 where it was, NaN for non-finite norms."""
    if before == 0 and after == 0:
        return 0.0
    if before == 0 or math.isnan(before) or math.isnan(after):
        return math.nan
    return math.log10(after / before) if after > 0 else -math.inf


def adder(
    indices: list[tuple[int, int]], sums: Slots
) -> Callable[[tuple[Tensor | None, ...], tuple[Tensor | None, ...]], None]:
    """A node hook that adds the gradients on some of the node's edges to what came before.

    Args:
        indices: Pairs of an edge's index at the node and the slot that it counts for.
        sums: Where they are added up.

    Returns:
        The hook; it changes nothing.
    """

    def add(inputs: tuple[Tensor | None, ...], _outputs: tuple[Tensor | None, ...]) -> None:
        with torch.no_grad():
            for index, slot in indices:
                grad = inputs[index]
                if grad is not None:
                    value = real(grad)
                    sums[slot] = sums[slot] + value if slot in sums else value.clone()

    return add
