"""What feeds a layer: the rows that its units multiply, read from what autograd keeps of its forward pass.

Letters: ``N`` samples (a convolution: one for each position), ``D`` features.
"""

from typing import Any

import torch
from torch.nn import functional

from defib.torchgraph.nodes import Node, parameter_of, saved_tensor

LINEAR = frozenset({"AddmmBackward0", "MmBackward0"})
CONVOLUTION = "ConvolutionBackward0"


def can_be_read(node: Node, parameters: tuple[torch.Tensor, ...]) -> bool:
    """Whether the node is a layer whose units are rows of its weight: linear, or a plain convolution.

    Args:
        node: The node that applies the parameters.
        parameters: Those parameters.

    Returns:
        False for grouped, transposed and 3-d convolutions, for weights that are stored transposed
        (Hugging Face's Conv1D), and where weight and bias cannot be told apart.
    """
    weight, rest = weight_of(parameters), [p for p in parameters if p.ndim == 1]
    if weight is None or len(rest) > 1 or len(rest) + 1 != len(parameters):
        return False
    if any(len(p) != len(weight) for p in rest):
        return False
    name = node.name()
    if name in LINEAR:
        x = saved_tensor(node, "mat1" if name == "AddmmBackward0" else "self")
        # For a square weight, only the node above the parameter tells whether it was transposed.
        return (
            x is not None
            and weight.ndim == 2
            and x.shape[-1] == weight.shape[1]
            and _transposes(node, weight)
        )
    if name != CONVOLUTION or weight.ndim not in {3, 4}:
        return False
    own: Any = node
    return own._saved_groups == 1 and not own._saved_transposed


def weight_of(parameters: tuple[torch.Tensor, ...]) -> torch.Tensor | None:
    """The only parameter with more than one axis; None if there is no such one."""
    found = [p for p in parameters if p.ndim > 1]
    return found[0] if len(found) == 1 else None


def feeds_on_data(node: Node, parameters: tuple[torch.Tensor, ...]) -> bool:
    """Whether nothing that is trained feeds this layer: its features do not move.

    Args:
        node: The node that applies the parameters.
        parameters: Those parameters.

    Returns:
        True if no gradient leaves it but to its own parameters.
    """
    own = {id(p) for p in parameters}
    children = [child for child, _ in node.next_functions if child is not None]
    return all(id(parameter_of(child)) in own for child in children)


def features(node: Node, most: int | None = None, offset: int = 0) -> torch.Tensor | None:
    """The layer's features, evenly spaced samples of them.

    Args:
        node: The node that applies the parameters; see :func:`can_be_read`.
        most: Rows at most; None for all.
        offset: With which sample to begin, taken modulo the spacing.

    Returns:
        Shape (N, D), float32 or float64, a copy; None where autograd did not keep them.
    """
    with torch.no_grad():
        if node.name() in LINEAR:
            x = saved_tensor(node, "mat1" if node.name() == "AddmmBackward0" else "self")
            rows = None if x is None or x.ndim != 2 else _spaced(x, most, offset)
        else:
            rows = _patches(node, most, offset)
        if rows is None or not rows.is_floating_point():
            return None
        return rows.clone() if rows.dtype in {torch.float32, torch.float64} else rows.float()


def _transposes(node: Node, weight: torch.Tensor) -> bool:
    """Whether the weight reaches the product through a transposition, as ``F.linear`` has it."""
    for child, _ in node.next_functions:
        if child is not None and parameter_of(child) is weight:
            return child.name() in {"TBackward0", "TransposeBackward0"} or _transposes_below(child)
    return False


def _transposes_below(node: Node) -> bool:
    """The same, seen through a change of format (autocast)."""
    below = [child for child, _ in node.next_functions if child is not None]
    return len(below) == 1 and below[0].name() in {"TBackward0", "TransposeBackward0"}


def _spaced(rows: torch.Tensor, most: int | None, offset: int) -> torch.Tensor:
    """Evenly spaced rows, without an index that would have to be sent to a device."""
    if most is None or len(rows) <= most:
        return rows
    spacing = len(rows) // most
    return rows[offset % spacing :: spacing][:most]


def _patches(node: Node, most: int | None, offset: int) -> torch.Tensor | None:
    """Of a convolution: what the kernel covers at each position, in the order of the weight's entries."""
    own: Any = node
    x, weight = saved_tensor(node, "input"), saved_tensor(node, "weight")
    if x is None or weight is None or x.ndim != weight.ndim:
        return None
    kernel, stride, padding, dilation = (
        tuple(weight.shape[2:]),
        tuple(own._saved_stride),
        tuple(own._saved_padding),
        tuple(own._saved_dilation),
    )
    if x.ndim == 3:  # one axis of positions: an image of height 1
        x = x.unsqueeze(2)
        kernel, stride, padding, dilation = (1, *kernel), (1, *stride), (0, *padding), (1, *dilation)
    x = x.float() if x.dtype in {torch.float16, torch.bfloat16} else x
    images = None if most is None else max(1, most // 16)
    x = _spaced(x, images, offset)
    found = functional.unfold(x, kernel, dilation=dilation, padding=padding, stride=stride)
    rows = found.transpose(1, 2).reshape(-1, found.shape[1])
    return _spaced(rows, most, offset)
