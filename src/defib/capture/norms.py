"""Sizes of gradients, weights and updates on a sampled step, tensor by tensor.

The update is the difference between two looks at the weights. Of a large tensor
only a strided sample is kept in between, so that memory stays small.

Letters: ``P`` parameters.
"""

import torch

from defib.capture.border import Transfer

SAMPLE = 16_384
"""Entries of a tensor that are compared before and after the step."""


class StepNorms:
    """Made right before the optimiser's step; :meth:`after` is called right after it.

    Args:
        parameters: Names and parameters with a dense gradient.
        scale: The loss scale still on the gradients; 1.0 if none.
    """

    def __init__(self, parameters: list[tuple[str, torch.Tensor]], scale: float | torch.Tensor) -> None:
        self.names = tuple(name for name, _ in parameters)
        self._tensors = [p for _, p in parameters]
        with torch.no_grad():
            gradients = [_plain(p.grad) for p in self._tensors if p.grad is not None]
            values = [_plain(p) for p in self._tensors]
            self._gradient = torch.stack([_norm(g) for g in gradients]) / scale
            self._weight = torch.stack([_norm(w) for w in values])
            self._before = [_sampled(w).clone() for w in values]
            self._moving = [_sampled(g) != 0 for g in gradients]

    def after(self) -> Transfer:
        """Gradient, weight and update norm and swallowed share, shape (4, P), on their way to the host."""
        updates, swallowed = [], []
        with torch.no_grad():
            for before, moving, parameter in zip(self._before, self._moving, self._tensors, strict=True):
                now = _sampled(_plain(parameter))
                scale = (parameter.numel() / max(now.numel(), 1)) ** 0.5
                updates.append(_norm(now.float() - before.float()) * scale)
                still = ((now == before) & moving).sum().float()
                swallowed.append(still / moving.sum().clamp(min=1).float())
            rows = [self._gradient, self._weight, torch.stack(updates), torch.stack(swallowed)]
            return Transfer(torch.stack([row.float() for row in rows]))


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """The values alone: detached, and this rank's part of a sharded tensor."""
    detached = tensor.detach()
    to_local = getattr(detached, "to_local", None)
    plain: torch.Tensor = detached if to_local is None else to_local()
    return plain


def _norm(tensor: torch.Tensor) -> torch.Tensor:
    """Euclidean norm, accumulated in fp32 or better."""
    wide = torch.float64 if tensor.dtype is torch.float64 else torch.float32
    norm: torch.Tensor = torch.linalg.vector_norm(tensor, dtype=wide).to(torch.float32)
    return norm


def _sampled(tensor: torch.Tensor) -> torch.Tensor:
    """At most ``SAMPLE`` entries, evenly spread; a view where the tensor is contiguous."""
    flat = tensor.reshape(-1)
    stride = -(-flat.numel() // SAMPLE)
    # An odd stride walks through all columns of a matrix with an even number of them.
    return flat[:: stride | 1] if stride > 1 else flat
