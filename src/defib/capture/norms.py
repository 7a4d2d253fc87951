"""Sizes of gradients, weights and updates on a sampled step, tensor by tensor.

The update is the difference between two looks at the weights. Of a large tensor
only a strided sample is kept in between, so that memory stays small.

Letters: ``P`` parameters.
"""

import torch

from defib.capture.border import Transfer

SAMPLE = 16_384
"""Entries of a tensor that are compared before and after the step."""
FEW = 1024
"""Entries of a tensor that are kept from the start: a distance is known from them to a few percent."""


class Start:
    """A few entries of every tensor as it was when first read, so that the way covered can be told."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[int, torch.Tensor]] = {}

    def away(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        """Distance of all tensors from their start over their size then, shape (1,); NaN if that was 0.

        Each tensor's part is scaled up from its entries.

        Args:
            tensors: The parameters; known again by identity.

        Returns:
            The ratio, on the tensors' device.
        """
        moved, size = [], []
        for tensor in tensors:
            now = _sampled(plain(tensor), FEW).float()
            known = self._entries.get(id(tensor))
            if known is None or known[0] != now.numel():
                known = self._entries[id(tensor)] = (now.numel(), now.clone())
            share = plain(tensor).numel() / max(now.numel(), 1)
            moved.append((now - known[1]).square().sum() * share)
            size.append(known[1].square().sum() * share)
        return (torch.stack(moved).sum() / torch.stack(size).sum()).sqrt().reshape(1)


class StepNorms:
    """Made right before the optimiser's step; :meth:`after` is called right after it.

    Args:
        parameters: Names and parameters with a dense gradient.
        scale: The loss scale still on the gradients; 1.0 if none.
        start: Where the weights began.

    Attributes:
        displacement: How far they are from there, over their size then; shape (1,).
    """

    def __init__(
        self, parameters: list[tuple[str, torch.Tensor]], scale: float | torch.Tensor, start: Start
    ) -> None:
        self.names = tuple(name for name, _ in parameters)
        self._tensors = [p for _, p in parameters]
        with torch.no_grad():
            gradients = [plain(p.grad) for p in self._tensors if p.grad is not None]
            values = [plain(p) for p in self._tensors]
            self.displacement = Transfer(start.away(self._tensors))
            self._gradient = torch.stack([_norm(g) for g in gradients]) / scale
            self._weight = torch.stack([_norm(w) for w in values])
            self._before = [_sampled(w).clone() for w in values]
            self._moving = [_sampled(g) != 0 for g in gradients]

    def after(self) -> Transfer:
        """Gradient, weight and update norm and swallowed share, shape (4, P), on their way to the host."""
        updates, swallowed = [], []
        with torch.no_grad():
            for before, moving, parameter in zip(self._before, self._moving, self._tensors, strict=True):
                now = _sampled(plain(parameter))
                scale = (parameter.numel() / max(now.numel(), 1)) ** 0.5
                updates.append(_norm(now.float() - before.float()) * scale)
                still = ((now == before) & moving).sum().float()
                swallowed.append(still / moving.sum().clamp(min=1).float())
            rows = [self._gradient, self._weight, torch.stack(updates), torch.stack(swallowed)]
            return Transfer(torch.stack([row.float() for row in rows]))


def plain(tensor: torch.Tensor) -> torch.Tensor:
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


def _sampled(tensor: torch.Tensor, most: int = SAMPLE) -> torch.Tensor:
    """At most ``most`` entries, evenly spread; a view where the tensor is contiguous."""
    flat = tensor.reshape(-1)
    stride = -(-flat.numel() // most)
    # An odd stride walks through all columns of a matrix with an even number of them.
    return flat[:: stride | 1] if stride > 1 else flat
