"""Numbers step by step in short, so that two runs can be laid over each other.

Letters: ``T`` steps, ``B`` blocks.
"""

import re
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from defib.core.comparison import Curve, CurveChange
from defib.core.run import RunView
from defib.core.series import Series
from defib.core.trial import Goal

POINTS = 400
"""Points that are kept for drawing, at most."""

BLOCKS = 50
"""Blocks whose medians are compared for the best: single mini-batches are a matter of luck."""

_FALLS = re.compile(r"loss|error|err\b|nll|mse|mae|perplexity|ppl", re.I)
_RISES = re.compile(r"acc|f1|auc|score|reward|return|precision|recall|iou|bleu|rouge", re.I)


def curve_changes(before: RunView, after: RunView) -> tuple[CurveChange, ...]:
    """Every curve that either run has, the losses first.

    Args:
        before: The first run.
        after: The second.

    Returns:
        What each curve became.
    """
    old, new = series_of(before), series_of(after)
    return tuple(_change(name, old.get(name), new.get(name)) for name in dict.fromkeys([*old, *new]))


def series_of(run: RunView) -> dict[str, Series]:
    """The loss, what the script logged, learning rate and loss scale, each by its name."""
    found: dict[str, Series] = {}
    several = len(run.optimizers) > 1
    for name in ("loss", "lr", "scale"):
        for optimizer in run.optimizers:
            own = f"{name} of optimizer {optimizer.index}" if several else name
            found[own] = getattr(optimizer, name)
        if name == "loss":
            found |= {(f"{n} (logged)" if n in found else n): s for n, s in run.logged.items()}
    plain = {n for n, s in found.items() if n.startswith("scale") and (s.values == 1).all()}  # no scaler
    return {name: series for name, series in found.items() if len(series) and name not in plain}


def goal_of(name: str) -> Goal | None:
    """Which way is better, told by the name; None if it does not say."""
    if _FALLS.search(name):
        return Goal.LOWER
    return Goal.HIGHER if _RISES.search(name) else None


def _change(name: str, old: Series | None, new: Series | None) -> CurveChange:
    goal = goal_of(name)
    before = None if old is None else curve(old, goal)
    after = None if new is None else curve(new, goal)
    reached = None
    if goal is not None and before is not None and new is not None and np.isfinite(before.best):
        steps, levels = _levels(new)
        as_good = levels <= before.best if goal is Goal.LOWER else levels >= before.best
        reached = int(steps[as_good.argmax()]) if as_good.any() else None
    return CurveChange(name=name, goal=goal, before=before, after=after, reached=reached)


def curve(series: Series, goal: Goal | None) -> Curve:
    """A series in short.

    Args:
        series: The numbers.
        goal: Which way is better.

    Returns:
        Its ends, its best, and points to draw it by.
    """
    finite = np.isfinite(series.values)
    values = series.values[finite]
    size = max(1, len(values) // 20)
    best, at = float("nan"), -1
    if goal is not None and len(values):
        steps, levels = _levels(series)
        place = int(levels.argmin() if goal is Goal.LOWER else levels.argmax())
        best, at = float(levels[place]), int(steps[place])
    steps, drawn = thinned(series.steps[finite], values)
    return Curve(
        points=len(series),
        nonfinite=int((~finite).sum()),
        first=float(np.median(values[:size])) if len(values) else float("nan"),
        last=float(np.median(values[-size:])) if len(values) else float("nan"),
        best=best,
        best_step=at,
        steps=tuple(steps.tolist()),
        values=tuple(drawn.tolist()),
    )


def _levels(series: Series) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Medians of blocks of steps, shape (B,), and the last step of each; short series as they are."""
    finite = np.isfinite(series.values)
    steps, values = series.steps[finite], series.values[finite]
    size = max(1, len(values) // BLOCKS) if len(values) >= 2 * BLOCKS else 1
    ends = np.arange(size, len(values) + 1, size)
    if not len(ends):
        return steps, values
    levels = np.array([np.median(values[end - size : end]) for end in ends])
    return np.asarray(steps[ends - 1], np.int64), levels


def thinned(
    steps: NDArray[np.int64], values: NDArray[np.float64], most: int = POINTS
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Fewer points of the same outline: of each stretch its lowest and its highest, in order of step.

    Args:
        steps: Shape (T,).
        values: Shape (T,), finite.
        most: Points to keep at most.

    Returns:
        Both, shortened; every kept point is one that was there.
    """
    if len(steps) <= most:
        return steps, values
    edges = np.linspace(0, len(steps), most // 2 + 1).astype(np.int64)
    kept: list[int] = []
    for start, end in pairwise(edges):
        part = values[start:end]
        kept += sorted({start + int(part.argmin()), start + int(part.argmax())})
    return steps[kept], values[kept]
