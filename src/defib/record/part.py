"""What one rank's file holds, decoded; the merging is done elsewhere."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defib.core.evidence import DAMAGED, Unseen
from defib.core.objective import OBJECTIVE_COLUMNS, Objective
from defib.core.reading import LENGTHS, Liveness, Reading
from defib.core.run import Event, Exhibit
from defib.core.series import Series
from defib.core.site import Signal, Site
from defib.core.wiring import Layer, Wiring
from defib.record import cabinet, readings
from defib.record.codec import AlteredError, Plain, decode_name, inflate, loads
from defib.record.nouns import layer_from_plain, take, texts, wiring_from_plain
from defib.record.readings import Spot
from defib.record.rows import Rank, Row
from defib.record.shelf import Shelf

MOST_BYTES = 6 << 30
"""Bytes of arrays that are unpacked from one file; a writer's cap keeps far below."""

_WRONG = (
    AlteredError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
)


@dataclass(kw_only=True)
class FlowPoints:
    """All of a rank's flow: entry i is the RMS ``value[i]`` at ``spots[place[i]]`` on ``step[i]``."""

    step: NDArray[np.int64]
    place: NDArray[np.int64]
    value: NDArray[np.float64]


@dataclass(kw_only=True)
class NormBlock:
    """Norms of one list of parameters: values of shape (R, 4, P)."""

    parameters: tuple[str, ...]
    steps: NDArray[np.int64]
    values: NDArray[np.float32]


@dataclass(kw_only=True)
class Part:
    """One rank's share of a run. ``error`` is set if its file could not be read at all."""

    file: Path
    rank: int
    error: str = ""
    status: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    wirings: tuple[Wiring, ...] = ()
    loss_operations: tuple[str, ...] = ()
    readings: list[Reading] = field(default_factory=list)
    liveness: dict[tuple[int, str], Liveness] = field(default_factory=dict)
    optimizers: dict[int, dict[str, Any]] = field(default_factory=dict)
    streams: dict[tuple[int, str], Series] = field(default_factory=dict)
    spots: dict[int, Spot] = field(default_factory=dict)
    flow: FlowPoints | None = None
    norms: list[NormBlock] = field(default_factory=list)
    objective: Objective | None = None
    events: list[tuple[float, Event]] = field(default_factory=list)
    exhibits: list[Exhibit] = field(default_factory=list)
    unseen: list[Unseen] = field(default_factory=list)


def read_part(rank: Rank, shelf: Shelf, at_once: int) -> Part:
    """Decodes a rank's file. Never raises for what the file holds: see ``Part.unseen``.

    Args:
        rank: The open file.
        shelf: Where readings go that are not unpacked at once.
        at_once: Bytes of unpacked readings up to which all of them are.

    Returns:
        What it holds.
    """
    number = rank.ident.get("rank")
    part = Part(file=rank.path, rank=number if isinstance(number, int) else 0)
    _states(rank, part)
    budget = [MOST_BYTES]
    _each(rank, "place", lambda row: _place(row, part))
    _each(rank, "event", lambda row: _event(row, part))
    _each(rank, "liveness", lambda row: _liveness(row, part, budget))
    chunks: dict[tuple[str, Any], list[Any]] = {}
    _each(rank, "series", lambda row: _chunk(row, chunks, rank, budget))
    for (kind, key), pieces in chunks.items():
        _series(kind, key, pieces, part, rank)
    _each(rank, "reading", lambda row: part.readings.extend(readings.decoded(row, part.spots, shelf)))
    part.readings, failed = readings.unpacked(part.readings, at_once, _WRONG)
    rank.lost["reading"] += failed
    _each(rank, "exhibit", lambda row: _exhibit(row, part, budget))
    for table, count in sorted((+rank.lost).items()):
        rows = "1 row" if count == 1 else f"{count} rows"
        part.unseen.append(Unseen(what="run", why=f"{rows} of {table} {DAMAGED} or lost in {rank.path.name}"))
    return part


def _each(rank: Rank, table: str, decode: Callable[[Row], None]) -> None:
    for row in rank.rows(table):
        try:
            decode(row)
        except _WRONG:
            rank.lost[table] += 1


def _spend(budget: list[int], amount: int) -> None:
    """Counts what is unpacked, so that a small file cannot fill the memory.

    Raises:
        AlteredError: If it is too much.
    """
    budget[0] -= amount
    if budget[0] < 0:
        raise AlteredError("more data than any run has")


def _states(rank: Rank, part: Part) -> None:
    part.facts = {name: value for name, value in rank.states.get("fact", {}).items() if isinstance(name, str)}
    lists: Counter[str] = Counter()
    try:
        layers = rank.states.get("layers", {}).get(None, [])
        part.layers = tuple(layer_from_plain(plain) for plain in layers)
    except _WRONG:
        lists["layers"] += 1
    try:
        drawn = rank.states.get("wirings", {}).get(None)
        if drawn is not None:
            part.wirings = tuple(wiring_from_plain(plain) for plain in take(drawn, "wirings", list))
            part.loss_operations = texts(take(drawn, "loss_operations", list))
    except _WRONG:
        lists["wirings"] += 1
    for key, value in rank.states.get("optimizer", {}).items():
        if isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], int) and isinstance(key[1], str):
            part.optimizers.setdefault(key[0], {})[key[1]] = value
    for name in lists:
        part.unseen.append(Unseen(what="run", why=f"the list of {name} is {DAMAGED} in {rank.path.name}"))


def _place(row: Row, part: Part) -> None:
    number, path, call, signal = row
    part.spots[number] = (Site(path=decode_name(path), call=int(call)), Signal(signal.decode()))


def _event(row: Row, part: Part) -> None:
    _, when, step, kind, data = row
    details = loads(data)
    if not isinstance(details, dict):
        raise AlteredError("an event without data")
    part.events.append((float(when), Event(step=int(step), kind=decode_name(kind), data=details)))


def _exhibit(row: Row, part: Part, budget: list[int]) -> None:
    _, kind, path, step, facts, layout, size, body = row
    if not kind:
        return  # it gave way to newer ones, which is told apart
    details = loads(facts)
    if not isinstance(details, dict):
        raise AlteredError("an exhibit without facts")
    _spend(budget, max(0, size))
    arrays = cabinet.unpack(loads(layout), size, body)
    name = decode_name(path)
    part.exhibits.append(
        Exhibit(kind=decode_name(kind), path=name, step=int(step), facts=details, arrays=arrays)
    )


def _liveness(row: Row, part: Part, budget: list[int]) -> None:
    _, optimizer, path, facts, units, body = row
    known, name = loads(facts), decode_name(path)
    rows = 5 if known.get("rows") == 5 else 3  # not in records of before
    _spend(budget, 4 * rows * max(0, units))
    data = np.frombuffer(inflate(body, 4 * rows * units), "<i4").reshape(rows, units).astype(np.int64)
    first, last, steps = data[:3]
    lengths = known.get("lengths")
    part.liveness[optimizer, name] = Liveness(
        path=name,
        source=str(known.get("source", "")),
        steps=int(known.get("steps", 0)),
        last_step=int(known.get("last_step", -1)),
        period=int(known.get("period", 1)),
        first_alive=first,
        last_alive=last,
        alive_steps=steps,
        batch=float(known.get("batch", 0.0)),
        returns=data[3] if rows == 5 else None,
        silent_before=data[4] if rows == 5 else None,
        lengths=np.array(lengths, np.int64) if lengths is not None and len(lengths) == LENGTHS else None,
    )


def _objective(facts: Plain, steps: NDArray[np.int64], values: NDArray[np.float64]) -> Objective:
    known = facts if isinstance(facts, dict) else {}
    lacking = len(OBJECTIVE_COLUMNS) - values.shape[1]  # columns that a record of before does not have
    values = np.pad(values, ((0, 0), (0, lacking)), constant_values=np.nan)
    return Objective(
        operation=str(known.get("operation", "")),
        output_layer=str(known.get("output_layer", "")),
        input_layer=str(known.get("input_layer", "")),
        steps=steps,
        columns=dict(zip(OBJECTIVE_COLUMNS, values.T, strict=True)),
    )


_OLDEST = 31
"""Columns of the objective in the first records."""
_ENTRY = {"stream": 12, "flow": 20}


def _chunk(row: Row, chunks: dict[tuple[str, Any], list[Any]], rank: Rank, budget: list[int]) -> None:
    _, kind, key, rows, width, body = row
    kind, key = kind.decode(), loads(key)
    key = tuple(key) if isinstance(key, list) else key
    if kind == "norms" and width != 4 * len(rank.states["parameters"][key]):
        raise AlteredError("norms of another number of parameters")
    if kind == "objective" and not _OLDEST <= width <= len(OBJECTIVE_COLUMNS):
        raise AlteredError("another number of columns")
    if rows < 0 or width < 0:
        raise AlteredError("a negative size")
    size = rows * (_ENTRY.get(kind) or 8 + 4 * width)
    _spend(budget, size)
    data = inflate(body, size)
    steps = np.cumsum(np.frombuffer(data, "<i8", rows))
    at = 8 * rows
    if kind == "flow":
        places = np.frombuffer(data, "<i4", rows, at).astype(np.int64)
        piece: tuple[Any, ...] = (steps, places, np.frombuffer(data, "<f8", rows, at + 4 * rows))
    elif kind in {"stream", "norms", "objective"}:
        piece = (steps, np.frombuffer(data, "<f4", rows * width, at).reshape(rows, width))
    else:
        raise AlteredError(f"a series of {kind!r}")
    chunks.setdefault((kind, key), []).append(piece)


def _series(kind: str, key: Plain, pieces: list[Any], part: Part, rank: Rank) -> None:
    try:
        columns = [np.concatenate(column) for column in zip(*pieces, strict=True)]
        if kind == "flow":
            part.flow = FlowPoints(step=columns[0], place=columns[1], value=columns[2])
            return
        # The last entry of a step counts; np.unique finds the first, so it looks from behind.
        steps, index = np.unique(columns[0][::-1], return_index=True)
        values = columns[1][::-1][index]
        if kind == "norms":
            names = texts(rank.states["parameters"][key])
            part.norms.append(
                NormBlock(parameters=names, steps=steps, values=values.reshape(-1, 4, len(names)))
            )
        elif kind == "objective":
            part.objective = _objective(part.facts.get("objective"), steps, values.astype(np.float64))
        else:
            optimizer, name = key
            part.streams[int(optimizer), str(name)] = Series(
                steps=steps, values=values[:, 0].astype(np.float64)
            )
    except _WRONG:
        rank.lost["series"] += 1
