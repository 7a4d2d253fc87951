"""The layers of a run in order of data flow, and what one pass over their activations tells.

Letters: ``U`` units of a layer, ``W`` windows of readings, ``G`` rows of a map (units, or groups of them).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defib.core.reading import Liveness, Reading
from defib.core.run import RunView
from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.core.wiring import Layer, Wiring
from defib.report.thinning import grid, rounded

Array = NDArray[np.float64]

_MOST_ROWS = 256
"""Rows of a layer's map; a wider layer's units are put into groups."""
_MOST_CELLS = 1_200_000
"""Cells of all maps together: their bytes on the page."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One row of the picture: a layer, or one use of it.

    Attributes:
        site: Path and call.
        layer: The layer; None for an activation whose layer is not known.
        wiring: The activation behind it; None if there is none.
    """

    site: Site
    layer: Layer | None
    wiring: Wiring | None


def places(run: RunView) -> tuple[Place, ...]:
    """Every layer in order of data flow; each use of a shared one has a row of its own.

    A layer without an activation stands where the model lists it: after the last layer before it that
    has one.

    Returns:
        The rows.
    """
    known = {layer.path: layer for layer in run.layers}
    used: dict[str, list[Wiring]] = {}
    for wiring in run.wirings:
        used.setdefault(wiring.site.path, []).append(wiring)
    inside = {path: w.order for w in run.wirings for path in w.modules}
    rows: list[tuple[float, int, Place]] = []
    last = -1.0
    for index, layer in enumerate(run.layers):
        wirings = used.pop(layer.path, [])
        rows += [(w.order, index, Place(site=w.site, layer=layer, wiring=w)) for w in wirings]
        if not wirings:  # before the activation that it leads to, else after what was listed before it
            key = inside[layer.path] - 0.5 if layer.path in inside else last + 0.5
            rows.append((key, index, Place(site=Site(path=layer.path), layer=layer, wiring=None)))
        last = max((w.order for w in wirings), default=inside.get(layer.path, last))
    for wirings in used.values():
        rows += [(w.order, -1, Place(site=w.site, layer=known.get(w.site.path), wiring=w)) for w in wirings]
    return tuple(place for _, _, place in sorted(rows, key=lambda row: row[:2]))


def entry(place: Place, index: dict[Site, int]) -> dict[str, Any]:
    """What is known of a row without any reading."""
    layer, wiring = place.layer, place.wiring
    return {
        "path": place.site.path,
        "call": place.site.call,
        "kind": layer.kind if layer else "",
        "units": (wiring.units if wiring else 0) or (layer.units if layer else 0),
        "activation": wiring.activation if wiring else "",
        "output": bool(wiring and wiring.output),
        "frozen": bool(layer and layer.frozen),
        "inputs": [index[s] for s in wiring.inputs if s in index] if wiring else [],
        "skips": [index[s] for s in wiring.skips if s in index] if wiring else [],
        "crosses": list(wiring.crosses) if wiring else [],
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What the activations of one place looked like, window by window.

    Attributes:
        starts: First step of each window, shape (W,).
        end: Step after the last window.
        passes: Share of each unit's entries whose derivative is at least 1 % of its largest, shape
            (U, W); NaN where nothing was read.
        first: The tally of the first window.
        last: That of the last.
    """

    starts: NDArray[np.int64]
    end: int
    passes: Array
    first: Tally
    last: Tally


def look(run: RunView, site: Site) -> Look | None:
    """One pass over the activations of a place; None if none were read."""
    readings = [r for r in run.at(site, Signal.ACTIVATION) if r.samples > 0]
    if not readings:
        return None
    readings = [r for r in readings if r.units == readings[-1].units]
    columns: list[Array] = []
    first = last = Tally.empty(0)
    for number, reading in enumerate(readings):
        tally = reading.tally  # a large record unpacks it each time it is asked for
        with np.errstate(invalid="ignore", divide="ignore"):
            columns.append(np.where(tally.count > 0, 1 - tally.saturated / tally.count, np.nan))
        first = tally if number == 0 else first
        last = tally
    return Look(
        starts=np.array([r.first for r in readings], dtype=np.int64),
        end=_end(readings),
        passes=np.stack(columns, axis=1),
        first=first,
        last=last,
    )


def _end(readings: list[Reading]) -> int:
    return max(r.last for r in readings) + 1


def spread(tally: Tally) -> dict[str, Any]:
    """The distribution of a layer's activations as far as the record keeps it: moments, ends, shares."""
    entries, count = float(tally.finite.sum()), float(tally.count.sum())
    if entries <= 0:
        return {}
    mean = float(tally.total.sum()) / entries
    square = float(tally.squares.sum()) / entries
    return {
        "mean": rounded(mean),
        "std": rounded(max(square - mean**2, 0.0) ** 0.5),
        "low": rounded(float(tally.low.min())),
        "high": rounded(float(tally.high.max())),
        "zero": rounded(float(tally.zero.sum()) / count),
        "saturated": rounded(float(tally.saturated.sum()) / count),
        "nonfinite": rounded(float(tally.nonfinite.sum()) / count),
    }


def rows_allowed(looks: dict[int, Look]) -> int:
    """Rows that each map may have, so that all maps together stay below ``_MOST_CELLS`` cells."""
    columns = sum(len(each.starts) for each in looks.values())
    return max(16, min(_MOST_ROWS, _MOST_CELLS // max(1, columns)))


def unit_map(seen: Look, live: Liveness | None, most: int) -> dict[str, Any]:
    """The unit x step map of a layer.

    Units of a wide layer are sorted by when they last had a gradient, never first, and put into
    groups of equal size, each shown by its mean.

    Args:
        seen: Its activations.
        live: Its liveness; None if it was not read, or is of other units.
        most: Rows at most.

    Returns:
        ``grid``, ``per_row`` (units a row), ``silent_since`` (for each row the step after its last
        gradient, -1 where it has one still; empty for groups or without liveness).
    """
    units = len(seen.passes)
    fits = live is not None and len(live.last_alive) == units
    order = np.arange(units)
    per_row = -(-units // most)
    if per_row > 1 and live is not None and fits:
        order = np.argsort(live.last_alive, kind="stable")
    rows = seen.passes[order]
    if per_row > 1:
        padding = np.full((-units % per_row, rows.shape[1]), np.nan)
        rows = _means(np.concatenate([rows, padding]).reshape(-1, per_row, rows.shape[1]))
    silent: list[int] = []
    if per_row == 1 and live is not None and fits:
        silent = np.where(is_silent(live), live.last_alive + 1, -1).tolist()
    return {
        "grid": grid(rows, seen.starts.tolist(), seen.end, low=0.0, high=1.0, bits=8),
        "per_row": per_row,
        "silent_since": silent,
    }


def _means(groups: Array) -> Array:
    """Mean over the middle axis of what is not NaN; NaN where nothing is left."""
    some = ~np.isnan(groups)
    total, count = np.where(some, groups, 0.0).sum(axis=1), some.sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan), dtype=np.float64)


def is_silent(live: Liveness) -> NDArray[np.bool_]:
    """Units without a gradient for so long that it is an episode and not chance, shape (U,)."""
    from defib.core.reading import EPISODE_STEPS

    wait = EPISODE_STEPS * max(1, live.period)
    return np.asarray((live.last_alive < 0) | (live.silent_steps >= wait), dtype=np.bool_)
