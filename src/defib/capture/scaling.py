"""The loss scale of mixed precision: what a loss was multiplied with, and steps that were skipped.

A GradScaler that finds an infinite gradient does not call ``Optimizer.step`` at
all, and lowers its scale. Such a backward belongs to no step: its loss and its
readings are set aside and counted. Nothing here waits for a device.
"""

from collections.abc import Sequence

import torch

from defib.capture.border import scalar
from defib.torchgraph.nodes import saved_tensor

Scalar = float | torch.Tensor
"""A number on the host, or a 0-d tensor on an accelerator that nobody waits for."""


Heard = tuple[Scalar, Scalar | None]
"""The loss of one backward, and what it was multiplied with last; None if it does not come out of a product.

A plain tuple: one is made on every step, and building a class costs a Python call.
"""


def factor(loss: torch.Tensor) -> Scalar | None:
    """What ``scaler.scale(loss)`` multiplied a loss with; None if its last operation was another one."""
    node = loss.grad_fn
    if node is None or node.name() != "MulBackward0":
        return None
    other = saved_tensor(node, "other")
    return scalar(other) if other is not None and other.ndim == 0 and not other.requires_grad else None


def known_skipped(at_backward: Scalar | None, at_step: Scalar) -> bool:
    """Whether a scaler skipped a step in between: its scale fell. False where asking would wait."""
    return isinstance(at_backward, float) and isinstance(at_step, float) and at_backward > at_step


def mean_loss(heard: Sequence[Heard], scale: Scalar) -> tuple[Scalar, Scalar]:
    """Mean unscaled loss of the backwards that a step with this loss scale used, and how many it did not.

    Args:
        heard: At least one backward since the last step.
        scale: The scale in force at the step.

    Returns:
        The mean and the count, without waiting for a device.
    """
    if len(heard) == 1:
        return heard[0][0] / scale, 0.0
    numbers = [n for h in heard for n in h] + [scale]
    if not any(isinstance(n, torch.Tensor) for n in numbers):
        used = [float(h[0]) for h in heard if not known_skipped(h[1], scale)]
        return sum(used) / len(used) / scale if used else float("nan"), float(len(heard) - len(used))
    device = next(n.device for n in numbers if isinstance(n, torch.Tensor))
    losses = torch.stack([_on(device, h[0]) for h in heard])
    scales = torch.stack([_on(device, scale if h[1] is None else h[1]) for h in heard])
    kept = scales <= _on(device, scale)
    total = torch.where(kept, losses, torch.zeros_like(losses)).sum()
    return total / kept.sum() / _on(device, scale), (~kept).sum()


def _on(device: torch.device, number: Scalar) -> torch.Tensor:
    """A number there; made on the spot, for a copy from the host would wait."""
    if isinstance(number, torch.Tensor):
        return number.to(device=device, dtype=torch.float32)
    return torch.full((), number, dtype=torch.float32, device=device)
