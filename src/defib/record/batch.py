"""What waits to be written: a bounded amount, of which the oldest is kept.

The readings of a large network are handed over together, hundreds of megabytes of them that
capture holds anyway. So two readings of each place may always wait, whatever they weigh.
"""

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defib.core.reading import Reading
from defib.core.site import Signal, Site
from defib.record.cabinet import Key

StateKey = tuple[str, Any]
"""Kind and key of a row of ``state``; the key is hashable and JSON-able."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Alive:
    """One call of ``Sink.liveness``."""

    facts: dict[str, Any]
    units: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """One call of ``Sink.stream`` for one name."""

    optimizer: int
    name: str
    step: int
    values: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Bytes before compression."""
        return self.values.nbytes


@dataclass(frozen=True, kw_only=True, eq=False)
class Flow:
    """One call of ``Sink.flow``."""

    step: int
    values: dict[tuple[Site, Signal], float]

    @property
    def nbytes(self) -> int:
        """Bytes before compression."""
        return 20 * len(self.values)


@dataclass(frozen=True, kw_only=True, eq=False)
class NormRow:
    """One call of ``Sink.norms``; values of shape (4, P)."""

    step: int
    parameters: tuple[str, ...]
    values: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Bytes before compression."""
        return self.values.nbytes


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectiveRow:
    """One call of ``Sink.objective``; values in the order of ``OBJECTIVE_COLUMNS``."""

    step: int
    values: NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        """Bytes before compression."""
        return self.values.nbytes


@dataclass(frozen=True, kw_only=True, eq=False)
class Happened:
    """One call of ``Sink.event``, and when it was."""

    step: int
    kind: str
    data: dict[str, Any]
    time: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """One call of ``Sink.exhibit``; facts are JSON already."""

    facts: bytes
    arrays: dict[str, NDArray[np.generic]]

    @property
    def nbytes(self) -> int:
        """Bytes of memory, roughly."""
        return sum(array.nbytes for array in self.arrays.values()) + len(self.facts) + 500


Entry = Reading | Points | Flow | NormRow | ObjectiveRow | Happened


def _weight(entry: Entry) -> int:
    """Bytes of memory, roughly."""
    if isinstance(entry, Reading):
        return 80 * entry.tally.units + 500
    if isinstance(entry, Happened):
        return 1000
    return 10 * entry.nbytes + 300 if isinstance(entry, Flow) else entry.nbytes + 300


@dataclass(kw_only=True)
class Batch:
    """Things to be written in one transaction. Not thread-safe.

    Attributes:
        limit: Most bytes that wait; what comes later is dropped and counted.
        states: Latest values, by what they are.
        alive: Latest liveness, by optimizer and path.
        exhibits: Latest exhibits, by kind, path and step.
        entries: Everything else, in order.
        weight: Bytes in ``entries`` and ``exhibits``, roughly, without readings.
        readings: Bytes of readings in ``entries``, roughly.
        places: How many readings of each place are among them.
        dropped: Entries that found no room, by kind.
        dropped_steps: First and last step among them.
    """

    limit: int
    states: dict[StateKey, Any] = field(default_factory=dict)
    alive: dict[tuple[int, str], Alive] = field(default_factory=dict)
    exhibits: dict[Key, Shown] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    weight: int = 0
    readings: int = 0
    places: Counter[tuple[Site, Signal]] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_steps: tuple[int, int] | None = None

    def __bool__(self) -> bool:
        return bool(self.states or self.alive or self.exhibits or self.entries or self.dropped)

    def add(self, entry: Entry) -> None:
        """Keeps an entry, or counts it as dropped if there is no room."""
        weight = _weight(entry)
        if isinstance(entry, Reading):
            place = entry.site, entry.signal
            if self.readings + weight > self.limit and self.places[place] >= 2:
                self.drop(entry)
                return
            self.readings += weight
            self.places[place] += 1
        elif (self.entries or self.exhibits) and self.weight + weight > self.limit:
            self.drop(entry)
            return
        else:
            self.weight += weight
        self.entries.append(entry)

    def show(self, key: Key, shown: Shown) -> None:
        """Keeps an exhibit in place of one of the same key, or counts it as dropped if there is no room."""
        before = self.exhibits.pop(key, None)
        self.weight -= before.nbytes if before is not None else 0
        if (self.entries or self.exhibits) and self.weight + shown.nbytes > self.limit:
            self._drop("exhibit", key[2], key[2])
            return
        self.exhibits[key] = shown
        self.weight += shown.nbytes

    def drop(self, entry: Entry) -> None:
        """Counts an entry as dropped."""
        self._drop(_kind(entry), *_steps(entry))

    def _drop(self, kind: str, first: int, last: int) -> None:
        if self.dropped_steps is not None:
            first, last = min(first, self.dropped_steps[0]), max(last, self.dropped_steps[1])
        self.dropped[kind] += 1
        self.dropped_steps = (first, last)

    def drop_all(self) -> None:
        """Counts everything that waits, but for what only has a latest value, as dropped."""
        for entry in self.entries:
            self.drop(entry)
        for _, _, step in self.exhibits:
            self._drop("exhibit", step, step)
        self.entries, self.exhibits, self.weight, self.readings = [], {}, 0, 0
        self.places.clear()

    def portions(self, most: int) -> list["Batch"]:
        """This batch in parts, to be written one after the other.

        Args:
            most: Bytes of readings in each, if it has more than one; all else is in the first.

        Returns:
            One part or more.
        """
        parts = [replace(self, entries=[])]
        taken = 0
        for entry in self.entries:
            if not isinstance(entry, Reading):
                parts[0].entries.append(entry)
                continue
            taken += _weight(entry)
            if taken > most and parts[-1].entries:
                parts.append(Batch(limit=self.limit))
                taken = _weight(entry)
            parts[-1].entries.append(entry)
        return parts

    def then(self, later: "Batch") -> "Batch":
        """This batch, which could not be written, followed by what came meanwhile."""
        both = Batch(limit=self.limit, dropped=self.dropped + later.dropped)
        both.states = {**self.states, **later.states}
        both.alive = {**self.alive, **later.alive}
        spans = [span for span in (self.dropped_steps, later.dropped_steps) if span is not None]
        if spans:
            both.dropped_steps = (min(s[0] for s in spans), max(s[1] for s in spans))
        for key, shown in (*self.exhibits.items(), *later.exhibits.items()):
            both.show(key, shown)
        for entry in self.entries + later.entries:
            both.add(entry)
        return both

    def gap(self, why: str) -> Happened | None:
        """The event that tells what was dropped; None if nothing was."""
        if not self.dropped:
            return None
        first, last = self.dropped_steps or (-1, -1)
        data = {"why": why, "dropped": dict(self.dropped), "first_step": first, "last_step": last}
        return Happened(step=first, kind="gap", data=data)


_KINDS = {
    Reading: "reading",
    Points: "stream",
    Flow: "flow",
    NormRow: "norms",
    ObjectiveRow: "objective",
    Happened: "event",
}


def _kind(entry: Entry) -> str:
    return _KINDS[type(entry)]


def _steps(entry: Entry) -> tuple[int, int]:
    if isinstance(entry, Reading):
        return entry.first, entry.last
    if isinstance(entry, Points):
        return entry.step, entry.step + max(0, len(entry.values) - 1)
    return entry.step, entry.step
