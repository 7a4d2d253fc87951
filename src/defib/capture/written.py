"""A squared or absolute error that the script writes out: ``((p - y) ** 2).mean()``.

Its graph is a mean over a power (or an absolute value, or a product of the error with itself) over
a difference. The power keeps the error e for its backward, the graph tells which side of the
difference leads to parameters, and what that side gave is recomputed; so y = p - e gives the targets
that nobody kept.

Letters: ``B`` batch, ``n`` rows recomputed (n <= B), ``D`` columns.
"""

from dataclasses import dataclass

import torch

from defib.capture.graph import Producer
from defib.capture.preactivation import recompute_output
from defib.torchgraph.nodes import CASTS, PIECES, Node, saved_tensor

_RESULTS = {"TanhBackward0", "SigmoidBackward0", "SoftmaxBackward0", "ReluBackward0", "ExpBackward0"}
"""Activations that keep what they gave."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What such a loss compares.

    Attributes:
        operation: The node that makes a loss of the error: "PowBackward0", "AbsBackward0", "MulBackward0".
        prediction: What the model gave, shape (n, D).
        target: What it is compared with, shape (n, D); (B, 1) where they are stretched over each other.
        stretched: B predictions are compared with each of B targets.
    """

    operation: str
    prediction: torch.Tensor
    target: torch.Tensor
    stretched: bool


def written_out(root: Node | None, last: Producer | None) -> Written | None:
    """Reads such a loss off its graph.

    Args:
        root: ``grad_fn`` of the loss.
        last: The producer nearest the loss.

    Returns:
        What it compares; None if the loss is none of that kind, or its prediction cannot be had.
    """
    if root is None or last is None or root.name() != "MeanBackward0":
        return None
    power = _child(root, 0)
    error = _error(power)
    if power is None or error is None:
        return None
    difference = _through_casts(_child(power, 0))
    if difference is None or difference.name() != "SubBackward0" or _alpha(difference) != 1:
        return None
    sides = [child for child, _ in difference.next_functions]
    if len(sides) != 2 or (sides[0] is None) == (sides[1] is None):
        return None  # both sides are trained (a distance of two answers), or neither
    first = sides[0] is not None
    side = sides[0] if first else sides[1]
    prediction = _given(side, last)
    if side is None or prediction is None:
        return None
    error = error.float() if first else -error.float()  # of prediction minus target
    return _compared(power.name(), error, prediction.float(), tuple(side._input_metadata[0].shape))


def _compared(
    operation: str, error: torch.Tensor, prediction: torch.Tensor, shape: tuple[int, ...]
) -> Written | None:
    """Targets out of the error and the prediction, whose whole shape is ``shape``."""
    count = prediction.numel()
    whole = 1
    for size in shape:
        whole *= size
    if not count or not shape:
        return None
    if error.numel() == whole and whole // shape[0] * prediction.shape[0] == count:
        p = prediction.reshape(prediction.shape[0], -1)
        e = error.reshape(shape[0], -1)[: p.shape[0]]
        return Written(operation=operation, prediction=p, target=p - e, stretched=False)
    if tuple(error.shape) != (whole, whole) or whole < 2:
        return None
    p = prediction.reshape(-1)
    # (B, 1) against (B,): rows are predictions; (B,) against (B, 1): columns are
    table = p[:, None] - error[: len(p)] if len(shape) > 1 else (p[None] - error[:, : len(p)]).T
    target = table[0]
    largest = target.abs().max() + p.abs().max()
    # This waits for the device, once a reading, and only for a square table of errors.
    if not bool((table - target).abs().max() <= 1e-3 * largest):
        return None  # each prediction has targets of its own: several opinions a sample
    return Written(operation=operation, prediction=p[:, None], target=target[:, None], stretched=True)


def _error(power: Node | None) -> torch.Tensor | None:
    """What is squared, or made positive."""
    if power is None:
        return None
    if power.name() == "AbsBackward0" or (
        power.name() == "PowBackward0" and getattr(power, "_saved_exponent", None) == 2
    ):
        return saved_tensor(power, "self")
    children = [child for child, _ in power.next_functions]
    if power.name() == "MulBackward0" and len(children) == 2 and children[0] is children[1]:
        return saved_tensor(power, "self")
    return None


def _given(node: Node | None, last: Producer) -> torch.Tensor | None:
    """What one side of the difference gave: an activation's result, or the last layer's output."""
    for _ in range(6):
        if node is None:
            return None
        if node is last.node:
            return recompute_output(last)
        if node.name() in _RESULTS:
            return saved_tensor(node, "result")
        if node.name() not in CASTS | PIECES or not _keeps_all(node):
            return None
        node = _child(node, 0)
    return None


def _keeps_all(node: Node) -> bool:
    """Whether a change of shape leaves every entry where it is in order; a piece must be all there is."""
    if node.name().startswith(("Transpose", "T", "Permute")) and "ToCopy" not in node.name():
        return False
    child = _child(node, 0)
    if child is None:
        return False
    sizes = []
    for each in (node, child):
        size = 1
        for extent in each._input_metadata[0].shape:
            size *= extent
        sizes.append(size)
    return sizes[0] == sizes[1]


def _through_casts(node: Node | None) -> Node | None:
    """The node behind changes of the number format."""
    while node is not None and node.name() == "ToCopyBackward0":
        node = _child(node, 0)
    return node


def _child(node: Node, index: int) -> Node | None:
    """What feeds a node."""
    return node.next_functions[index][0] if len(node.next_functions) > index else None


def _alpha(node: Node) -> float:
    """What a difference multiplies its second side with."""
    return float(getattr(node, "_saved_alpha", 1))
