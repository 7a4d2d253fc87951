"""Ends a treated run early where it does no better than its rival.

The rival is the run that was left alone, or the one with a shorter course of treatments. Both
took the same batches from the same weights, so their losses are compared step by step at a few
marks. What is not clearly lower by then is ended: it cost a part of a run instead of a whole
one, and nothing was started twice for it.

Letters: ``W`` steps of a window, ``B`` blocks of neighbouring steps.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from defib.core.series import Series

MARKS = (0.25, 0.5)
"""Parts of the control's steps at which a run is compared with it."""

WINDOW = 0.1
"""Part of the steps before a mark over which losses are compared."""

FEWEST = 5
"""Steps of a window, at least."""

BLOCKS = 5
"""Neighbouring steps are not independent: they are averaged in so many blocks, which nearly are."""

LEVEL = 0.95

CLEARLY = 0.01
"""By what part of the loss a run has to be lower: less is not worth the other three quarters of a run."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a run has to beat at one step.

    Attributes:
        step: Optimiser steps taken.
        steps: The control's last steps before that, shape (W,).
        losses: Its losses on them, shape (W,).
    """

    step: int
    steps: tuple[int, ...]
    losses: tuple[float, ...]


def marks_of(control: Series) -> tuple[Mark, ...]:
    """What the losses of a run that came to its end ask of one that is treated, or treated further.

    Args:
        control: Its loss, step by step.

    Returns:
        In order; none for a run too short to compare.
    """
    total = len(control)
    found = []
    for share in MARKS:
        end = math.ceil(total * share)
        begin = max(0, end - max(FEWEST, round(total * WINDOW)))
        if end - begin >= FEWEST and end < total:
            kept = slice(begin, end)
            steps = tuple(int(s) for s in control.steps[kept])
            found.append(
                Mark(step=steps[-1] + 1, steps=steps, losses=tuple(map(float, control.values[kept])))
            )
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Gain:
    """How much lower a run's loss is than the control's on the same steps.

    Attributes:
        mean: Mean difference, in decades where all losses are positive, in units of the loss elsewhere.
            Infinite where only the control's loss is no number; minus infinity where the run's own is
            none, or the steps have no loss in common.
        low: Lower end of its 95 % interval.
        asked: What ``low`` has to exceed.
    """

    mean: float
    low: float
    asked: float = 0.0

    @property
    def is_clear(self) -> bool:
        """Whether it is worth going on."""
        return self.low > self.asked


def gain(mark: Mark, mine: Series) -> Gain:
    """Compares a run with the control.

    Args:
        mark: The control's steps.
        mine: The run's loss up to now.

    Returns:
        The gain.
    """
    held = dict(zip(mine.steps.tolist(), mine.values.tolist(), strict=True))
    pairs = [(c, held[s]) for s, c in zip(mark.steps, mark.losses, strict=True) if s in held]
    both = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    if len(both) < FEWEST or not np.isfinite(both[:, 1]).all():
        return Gain(mean=-math.inf, low=-math.inf)
    if not np.isfinite(both[:, 0]).all():
        return Gain(mean=math.inf, low=math.inf)
    positive = bool((both > 0).all())
    compared = np.log10(both) if positive else both
    asked = -math.log10(1 - CLEARLY) if positive else CLEARLY * abs(float(both[:, 0].mean()))
    mean, low = _interval(compared[:, 0] - compared[:, 1])
    return Gain(mean=mean, low=low, asked=asked)


def _interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and lower end, over B block means of the W differences."""
    blocks = np.array([float(part.mean()) for part in np.array_split(differences, BLOCKS)])
    half = special.stdtrit(BLOCKS - 1, 0.5 + LEVEL / 2) * blocks.std(ddof=1) / math.sqrt(BLOCKS)
    return float(differences.mean()), float(blocks.mean() - half)


def to_text(marks: tuple[Mark, ...]) -> str:
    """Marks as JSON."""
    return json.dumps([vars(mark) for mark in marks])


def from_file(path: Path) -> tuple[Mark, ...]:
    """The inverse of :func:`to_text`.

    Returns:
        Marks in order.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds something else.
    """  # noqa: DOC502 - what is called raises it
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return tuple(
            Mark(step=int(e["step"]), steps=tuple(e["steps"]), losses=tuple(map(float, e["losses"])))
            for e in entries
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no marks ({error})") from None
