"""Labels by answers, counted on sampled steps: small classifiers only.

Counts add up over the windows of time that readings have, too: many early in a run, few per
unit of time later.

Letters: ``N`` labels, ``C`` classes.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from defib.capture.windows import GROWTH
from defib.core.ports import Sink

MOST_CLASSES = 64
_MAX_ENTRIES = 1 << 16


def of_classes(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor | None:
    """The table of one batch of a loss over classes.

    Args:
        scores: Logits or log-probabilities, shape (N, C) or (N, C, ...).
        target: Whole-numbered labels, shape (N) or (N, ...); those outside of 0 to C - 1 are ignored.

    Returns:
        Counts, shape (C, C), true class by answered class; None for another shape or too many classes.
    """
    if scores.ndim < 2 or not 2 <= scores.shape[1] <= MOST_CLASSES or not target.numel():
        return None
    classes = int(scores.shape[1])
    rows = max(1, _MAX_ENTRIES // max(1, scores[0].numel()))
    answers = scores[:rows].argmax(1).reshape(-1)
    labels = target[:rows].reshape(-1)
    return None if answers.shape != labels.shape else _table(labels, answers, classes)


def of_binary(scores: torch.Tensor, target: torch.Tensor, threshold: float) -> torch.Tensor | None:
    """The table of one batch of a loss over one yes or no a sample; labels that are neither are ignored.

    Args:
        scores: Logits or probabilities, shape (N) or (N, 1).
        target: Labels 0 and 1, as ``scores``.
        threshold: Above it the answer is yes.

    Returns:
        Counts, shape (2, 2); None where a sample has several answers.
    """
    if scores.numel() != scores.shape[0] or scores.shape != target.shape:
        return None
    flat = target.reshape(-1)
    labels = torch.where((flat == 0) | (flat == 1), flat, torch.full_like(flat, -1))
    return _table(labels[:_MAX_ENTRIES], scores.reshape(-1)[:_MAX_ENTRIES] > threshold, 2)


def _table(labels: torch.Tensor, answers: torch.Tensor, classes: int) -> torch.Tensor:
    """Counts as a product of two indicators: no order of adding, so that it is the same on any device."""
    names = torch.arange(classes, device=labels.device)
    true, answered = (labels[:, None] == names).float(), (answers[:, None] == names).float()
    return true.T @ answered


class Confusion:
    """The tables of one run on their way to the sink.

    Args:
        sink: Takes them.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._first = self._last = self._batches = 0
        self._path = ""
        self._total: NDArray[np.int64] | None = None
        self._dirty = False

    def add(self, step: int, path: str, table: NDArray[np.generic]) -> None:
        """The table of one sampled step.

        Args:
            step: The step.
            path: The output layer.
            table: Counts, shape (C, C).
        """
        counts = np.asarray(table).round().astype(np.int64)
        grown = step > self._first * GROWTH + 4
        if self._total is None or grown or self._total.shape != counts.shape or path != self._path:
            self.write()
            self._first, self._path, self._total = step, path, np.zeros_like(counts)
            self._batches = 0
        self._total = self._total + counts
        self._batches += 1
        self._last, self._dirty = step, True

    def write(self) -> None:
        """Hand over the window that is open, if it has grown."""
        if self._dirty and self._total is not None:
            arrays: dict[str, NDArray[np.generic]] = {"matrix": self._total}
            facts = {"last": self._last, "batches": self._batches}
            self._sink.exhibit("confusion", self._path, self._first, facts, arrays)
            self._dirty = False
