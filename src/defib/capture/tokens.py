"""The most frequent token of a model's input, on sampled steps: padding, most of the time."""

import torch

from defib.core.ports import Sink

_MOST = 1 << 16


def most_frequent(indices: torch.Tensor) -> torch.Tensor:
    """The token that a batch holds most often, and its share; shape (2,), without waiting for a device."""
    sorted_ = indices.reshape(-1)[:_MOST].sort().values
    counts = torch.searchsorted(sorted_, sorted_, right=True) - torch.searchsorted(sorted_, sorted_)
    token = sorted_.index_select(0, counts.argmax().reshape(1))
    return torch.cat([token.double(), counts.max().reshape(1).double() / sorted_.numel()])


class Tokens:
    """What was seen of them in one run, on its way to the sink.

    Args:
        sink: Takes it.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._path = ""
        self._shares: dict[int, float] = {}
        self._batches = 0
        self._dirty = False

    def add(self, path: str, token: int, share: float) -> None:
        """The most frequent token of one batch at the layer ``path``, and its share."""
        self._path, self._dirty = path, True
        self._batches += 1
        self._shares[token] = self._shares.get(token, 0.0) + share

    def write(self) -> None:
        """Hand over what has changed."""
        if self._dirty:
            token = max(self._shares, key=lambda t: self._shares[t])
            # Batches in which another one led count with nothing, so this is a lower bound.
            facts = {"token": token, "share": self._shares[token] / self._batches, "batches": self._batches}
            self._sink.exhibit("tokens", self._path, 0, facts, {})
            self._dirty = False
