"""The loss scale of mixed precision: what a loss was multiplied with, and steps that were skipped.

A GradScaler that finds an infinite gradient does not call ``Optimizer.step`` at
all, and lowers its scale. Such a backward belongs to no step: its loss and its
readings are set aside and counted. Nothing here waits for a device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from defib.capture.border import scalar
from defib.capture.graph import saved_tensor

Number = float | torch.Tensor
"""A number on the host, or a 0-d tensor on an accelerator that nobody waits for."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """The loss of one backward, as ``backward`` was called on it.

    Attributes:
        loss: The loss, still multiplied with the loss scale.
        scale: What it was multiplied with last; None if it does not come out of a product.
    """

    loss: Number
    scale: Number | None


def factor(loss: torch.Tensor) -> Number | None:
    """What ``scaler.scale(loss)`` multiplied a loss with; None if its last operation was another one."""
    node = loss.grad_fn
    if node is None or node.name() != "MulBackward0":
        return None
    other = saved_tensor(node, "other")
    return scalar(other) if other is not None and other.ndim == 0 and not other.requires_grad else None


def skipped(at_backward: Number | None, at_step: Number) -> bool:
    """Whether a scaler skipped a step in between, as only then its scale falls; waits for an accelerator."""
    return at_backward is not None and float(at_backward) > float(at_step)


def known_skipped(at_backward: Number | None, at_step: Number) -> bool:
    """As :func:`skipped` where that costs no wait; False otherwise."""
    return isinstance(at_backward, float) and isinstance(at_step, float) and at_backward > at_step


def mean_loss(heard: Sequence[Heard], scale: Number) -> tuple[Number, Number]:
    """Mean unscaled loss of the backwards that a step with this loss scale used, and how many it did not.

    Args:
        heard: At least one backward since the last step.
        scale: The scale in force at the step.

    Returns:
        The mean and the count, without waiting for a device.
    """
    if len(heard) == 1:
        return heard[0].loss / scale, 0.0
    numbers = [n for h in heard for n in (h.loss, h.scale)] + [scale]
    if not any(isinstance(n, torch.Tensor) for n in numbers):
        used = [float(h.loss) for h in heard if not known_skipped(h.scale, scale)]
        return sum(used) / len(used) / scale if used else float("nan"), float(len(heard) - len(used))
    device = next(n.device for n in numbers if isinstance(n, torch.Tensor))
    losses = torch.stack([_on(device, h.loss) for h in heard])
    scales = torch.stack([_on(device, scale if h.scale is None else h.scale) for h in heard])
    kept = scales <= _on(device, scale)
    total = torch.where(kept, losses, torch.zeros_like(losses)).sum()
    return total / kept.sum() / _on(device, scale), (~kept).sum()


def _on(device: torch.device, number: Number) -> torch.Tensor:
    """A number there; made on the spot, for a copy from the host would wait."""
    if isinstance(number, torch.Tensor):
        return number.to(device=device, dtype=torch.float32)
    return torch.full((), number, dtype=torch.float32, device=device)
