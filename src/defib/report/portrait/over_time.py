"""What happened over time: losses, events, and tables of layer x step.

Letters: ``U`` units of a layer, ``R`` rows (layers), ``C`` columns (steps), ``P`` parameters.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defib.core.reading import Liveness
from defib.core.run import Event, RunView
from defib.core.series import Series
from defib.report.portrait.layers import Look, Place, is_silent
from defib.report.thinning import MOST_COLUMNS, bucketed, curve, grid

Array = NDArray[np.float64]

_MOST_EVENTS = 200
_MOST_LOGGED = 24
_MOST_DEATHS = 60
_MOST_WORDS = 300


def losses(run: RunView) -> list[dict[str, Any]]:
    """The loss of each optimiser."""
    several = len(run.optimizers) > 1
    names = [f"loss of {o.kind} {o.index}" if several else "loss" for o in run.optimizers]
    return [curve(o.loss, name) for o, name in zip(run.optimizers, names, strict=True) if len(o.loss)]


def rates(run: RunView) -> list[dict[str, Any]]:
    """The learning rate of each optimiser."""
    return [curve(o.lr, f"{o.kind} {o.index}", 400) for o in run.optimizers if len(o.lr)]


def curvatures(run: RunView) -> list[dict[str, Any]]:
    """Rate x largest curvature where it was measured, and the most that the optimiser can follow."""
    found = []
    for index, measured in run.sharpness.items():
        name = "" if len(run.optimizers) < 2 else f" of optimiser {index}"
        for values, words in ((measured.product, "rate x curvature"), (measured.bound, "can be followed")):
            if np.isfinite(values).any():
                found.append(curve(Series(steps=measured.steps, values=values), f"{words}{name}", 400))
    return found


def logged(run: RunView) -> list[dict[str, Any]]:
    """What the script logged."""
    return [curve(series, name) for name, series in list(run.logged.items())[:_MOST_LOGGED]]


def events(run: RunView) -> list[dict[str, Any]]:
    """Events in order of time, each in a line of words; planned treatments are left to their outcome."""
    kept = [e for e in run.events if not (e.kind == "treatment" and e.data.get("stage") == "planned")]
    return [{"step": e.step, "kind": e.kind, "text": _words(e)} for e in kept[:_MOST_EVENTS]]


def _words(event: Event) -> str:
    """An event's details as they are, in one line."""
    if event.kind == "treatment":
        said = f"{event.data.get('treatment', '')} {event.data.get('stage', '')}".strip()
        why = event.data.get("why", "")
        return f"{said}: {why}" if why else said
    parts = []
    for name, value in event.data.items():
        shown = f"{len(value)} of them" if isinstance(value, (list, tuple)) and len(value) > 6 else value
        parts.append(f"{name} {shown}")
    return "; ".join(parts)[:_MOST_WORDS]


# ------------------------------------------------------------------ liveness


def liveness(run: RunView, rows: Sequence[Place], looks: Mapping[int, Look]) -> dict[str, Any] | None:
    """Share of each layer's units that get a gradient, step by step; None if nothing was seen.

    Where gradients were read on every step, a unit counts from its first to its last one; what it was
    silent in between, longer than by chance, is taken from the readings. Where they tell nothing (an
    activation without an exactly flat part) the readings alone are shown.

    Args:
        run: The run.
        rows: The layers.
        looks: Their activations, by row.

    Returns:
        A grid.
    """
    end = max(
        [live.last_step + 1 for live in run.liveness.values()] + [each.end for each in looks.values()] + [0]
    )
    if not end:
        return None
    steps = _columns(end)
    values = np.full((len(rows), len(steps)), np.nan)
    for row, place in enumerate(rows):
        live = run.liveness.get(place.site.path)
        if live is not None and live.steps:
            values[row] = _alive(live, looks.get(row), steps)
        elif row in looks:
            values[row] = _passing(looks[row], steps)
    if np.isnan(values).all():
        return None
    return grid(values, steps.tolist(), end, low=0.0, high=1.0)


def deaths(run: RunView, rows: Sequence[Place]) -> dict[str, list[list[int]]]:
    """When units went silent for good, by row: pairs of a step and how many units, close ones together.

    Args:
        run: The run.
        rows: The layers.

    Returns:
        Rows without any are left out; a unit that never had a gradient counts at step 0.
    """
    found = {}
    for row, place in enumerate(rows):
        live = run.liveness.get(place.site.path)
        if live is None or not live.steps or place.site.call:
            continue
        silent = is_silent(live)
        at = np.where(live.first_alive < 0, 0, live.last_alive + 1)[silent]
        if len(at):
            buckets = at * _MOST_DEATHS // (live.last_step + 2)
            _, first, counts = np.unique(buckets[np.argsort(at)], return_index=True, return_counts=True)
            steps = np.sort(at)[first]
            found[str(row)] = np.stack([steps, counts], axis=1).tolist()
    return found


def _columns(end: int) -> NDArray[np.int64]:
    """First steps of columns that are dense at the start, where most deaths are, and even later."""
    even = np.linspace(0, end, MOST_COLUMNS, endpoint=False)
    early = np.geomspace(1, max(2, end), 48)
    return np.unique(np.concatenate([even, early]).astype(np.int64).clip(0, end - 1))


def _alive(live: Liveness, seen: Look | None, steps: NDArray[np.int64]) -> Array:
    """Share of units between their first and their last gradient, shape (C,)."""
    units = max(1, len(live.last_alive))
    ended = np.where(is_silent(live), live.last_alive, np.iinfo(np.int64).max)
    never = live.first_alive < 0
    begun = np.sort(live.first_alive[~never])
    over = np.sort(ended[~never])
    until = np.append(steps[1:] - 1, steps[-1])
    # a column shows its last step: a death inside of it is seen in it
    share = (np.searchsorted(begun, until, side="right") - np.searchsorted(over, until, side="left")) / units
    share[until > live.last_step] = np.nan
    if seen is not None and live.returns is not None and len(seen.passes) == len(live.last_alive):
        between = (live.returns > 0) & ~never
        if between.any():
            share = share - _silent_between(live, seen, between, until) / units
    return np.asarray(share.clip(0.0, 1.0), dtype=np.float64)


def _silent_between(live: Liveness, seen: Look, units: NDArray[np.bool_], at: NDArray[np.int64]) -> Array:
    """How many of those units that came back passed nothing in the window of each step, shape (C,)."""
    window = np.searchsorted(seen.starts, at, side="right") - 1
    nothing = seen.passes[units][:, window.clip(0)] == 0
    first, last = live.first_alive[units][:, None], live.last_alive[units][:, None]
    inside = (first <= at) & (at <= last) & (window >= 0) & (at < seen.end)
    return np.asarray((nothing & inside).sum(axis=0), dtype=np.float64)


def _passing(seen: Look, steps: NDArray[np.int64]) -> Array:
    """Share of units that pass anything, from the readings alone, shape (C,)."""
    some = np.isnan(seen.passes)
    share = np.where(some.all(axis=0), np.nan, ((seen.passes > 0) & ~some).mean(axis=0))
    window = np.searchsorted(seen.starts, steps, side="right") - 1
    return np.asarray(np.where((window >= 0) & (steps < seen.end), share[window.clip(0)], np.nan))


# ------------------------------------------------------------------ sizes


def sizes(run: RunView, rows: Sequence[Place]) -> dict[str, dict[str, Any]]:
    """Gradient norm and update / weight of each layer on sampled steps, as decimal logarithms.

    Returns:
        Grids ``gradient`` and ``ratio``; empty if sizes were never read.
    """
    norms = run.norms
    if norms is None or not len(norms.steps):
        return {}
    columns = {name: i for i, name in enumerate(norms.parameters)}
    gradient = np.full((len(rows), len(norms.steps)), np.nan)
    ratio = gradient.copy()
    for row, place in enumerate(rows):
        names = place.layer.parameters if place.layer and place.site.call == 0 else ()
        own = [columns[name] for name in names if name in columns]
        if own:
            gradient[row] = _length(norms.gradient[:, own])
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio[row] = _length(norms.update[:, own]) / _length(norms.weight[:, own])
    end = max(run.steps, int(norms.steps[-1]) + 1)
    found = {}
    for name, values in (("gradient", gradient), ("ratio", ratio)):
        with np.errstate(divide="ignore", invalid="ignore"):
            steps, thin = bucketed(norms.steps, np.log10(values))
        if not np.isnan(thin).all():
            found[name] = grid(thin, steps, end, log=True)
    return found


def _length(parts: Array) -> Array:
    """Euclidean norm over tensors, shape (R,); NaN where none of them has one."""
    squares = np.where(np.isnan(parts), 0.0, parts) ** 2
    return np.asarray(np.where(np.isnan(parts).all(axis=1), np.nan, np.sqrt(squares.sum(axis=1))))
