"""Two consecutive steps beside each other: what the next gradient says about the last step.

Right before a sampled step the gradient is copied, right after it the change of the
parameters is taken, and right before the next step, whether that is sampled or not, both
meet the next gradient. No backward is added, and nothing is kept but two vectors.

Letters: ``K`` entries kept.
"""

from dataclasses import dataclass

import torch

from defib.capture.border import Transfer
from defib.capture.norms import plain

SAMPLE = 1 << 16
"""Most entries of all parameters together that are compared: cosines to 0.4 %, 0.5 MiB a vector."""

Scale = float | torch.Tensor


@dataclass(kw_only=True)
class _Pair:
    """A step that waits for the next one; parameters are known by id, none is held."""

    step: int
    identity: tuple[tuple[int, int], ...]
    gradient: torch.Tensor
    values: torch.Tensor
    update: torch.Tensor | None = None


class Secants:
    """Pairs of steps under way, one an optimiser."""

    def __init__(self) -> None:
        self.waiting: dict[int, _Pair] = {}
        """By optimiser: steps whose next one has not come yet. No property: it is asked for on every step."""

    def begin(self, index: int, step: int, parameters: list[torch.Tensor], scale: Scale) -> None:
        """Right before a sampled step.

        Args:
            index: The optimiser.
            step: Its step.
            parameters: Those with a dense gradient.
            scale: The loss scale still on the gradients; 1.0 if none.
        """
        chosen = _chosen(parameters)
        with torch.no_grad():
            values, gradient = sampled(chosen), sampled([p.grad for p in chosen]) / scale
        identity = tuple((id(p), p.numel()) for p in chosen)
        self.waiting[index] = _Pair(step=step, identity=identity, gradient=gradient, values=values)

    def stepped(self, index: int, parameters: list[torch.Tensor]) -> None:
        """Right after it: what stays is the gradient and the change of the parameters."""
        pair, chosen = self.waiting.get(index), _chosen(parameters)
        if pair is None or not _same(pair, chosen):
            self.waiting.pop(index, None)
            return
        with torch.no_grad():
            pair.update = sampled(chosen) - pair.values

    def meet(self, index: int, parameters: list[torch.Tensor], scale: Scale) -> tuple[int, Transfer] | None:
        """Right before the next step.

        Args:
            index: The optimiser.
            parameters: Those with a dense gradient.
            scale: The loss scale still on the gradients; 1.0 if none.

        Returns:
            The sampled step, and the products of gradient, next gradient and update with each
            other, shape (3, 3), on their way to the host; None if other parameters have a
            gradient now.
        """
        pair, chosen = self.waiting.pop(index, None), _chosen(parameters)
        if pair is None or pair.update is None or not _same(pair, chosen):
            return None
        with torch.no_grad():
            following = sampled([p.grad for p in chosen]) / scale
            vectors = torch.stack([pair.gradient, following, pair.update])
            return pair.step, Transfer(vectors @ vectors.T)

    def clear(self) -> None:
        """Let go of everything."""
        self.waiting.clear()


def _chosen(parameters: list[torch.Tensor]) -> list[torch.Tensor]:
    """The parameters on the first one's device; a model over several devices is judged by one part."""
    return [p for p in parameters if p.device == parameters[0].device and p.is_floating_point()]


def _same(pair: _Pair, parameters: list[torch.Tensor]) -> bool:
    return pair.identity == tuple((id(p), p.numel()) for p in parameters)


def sampled(tensors: list[torch.Tensor | None] | list[torch.Tensor]) -> torch.Tensor:
    """One entry in so many of all tensors together, shape (K,); float64, so that squares do not overflow."""
    flat = [plain(t).reshape(-1) for t in tensors if t is not None]
    stride = -(-sum(t.numel() for t in flat) // SAMPLE)
    # An odd stride walks through all columns of a matrix with an even number of them.
    kept = [t[:: stride | 1] for t in flat] if stride > 1 else flat
    return torch.cat(kept).double()
