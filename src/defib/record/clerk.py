"""What goes into one rank's file: every entry as rows, under a hard cap of bytes."""

import sqlite3
from collections.abc import Callable
from typing import Any

import numpy as np

from defib.core.precision import single
from defib.core.reading import Reading
from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.record import cabinet, codec, thinning
from defib.record.batch import Alive, Batch, Entry, Flow, Happened, NormRow, ObjectiveRow, Points, Shown
from defib.record.book import Book
from defib.record.nouns import layer_to_plain, wiring_to_plain
from defib.record.schema import COLUMNS
from defib.record.tail import Tail
from defib.record.thinning import Held

READINGS_SHARE = 0.55
"""Share of the cap that readings take before older windows become one; see ``record.thinning``."""

READINGS_STOP = 0.80
"""Share of the cap from which no per-unit reading is written; the rest is for streams."""

EVERYTHING_STOPS = 0.95
"""Share of the cap from which only what is replaced in place is written."""

COARSE = 16
"""Past READINGS_STOP only steps divisible by this are kept of streams, flow and norms."""

_FULLER = 1.05
"""By how much readings may exceed their share: a window that two became may be larger than each."""

_OVERHEAD = 600
"""Bytes that a row may cost beyond its body."""


class Clerk:
    """Writes entries as rows into an open transaction. Not thread-safe.

    Args:
        cap: Most bytes of the file.

    Attributes:
        book: What is known about the file.
        used: Bytes of the file and of its log, as far as is known.
        beat: Entries written so far, or tried: it moves as long as the disk does.
    """

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.book = Book()
        self.used = 0
        self.beat = 0
        self._connection: sqlite3.Connection | None = None

    def at(self, connection: sqlite3.Connection, used: int) -> None:
        """Takes its place at an open transaction; the file and its log have ``used`` bytes now."""
        self._connection, self.used = connection, used

    def write(self, batch: Batch) -> None:
        """Everything in a batch."""
        for (kind, key), value in batch.states.items():
            self._try(self.state, kind, key, value)
        for (optimizer, path), alive in batch.alive.items():
            self._try(self._alive, optimizer, path, alive)
        for shown_key, shown in batch.exhibits.items():
            self._try(self._exhibit, shown_key, shown)
        touched: dict[tuple[str, Any], None] = {}  # a set that keeps its order
        for entry in batch.entries:
            self._try(self._entry, entry, touched)
            self.beat += 1
        for kind, key in touched:
            self._tail(kind, key)

    def _try(self, write: Callable[..., None], *args: object) -> None:
        """One thing that cannot be encoded must not stop the others."""
        try:
            write(*args)
        except (sqlite3.InterfaceError, sqlite3.DataError, sqlite3.ProgrammingError):
            self._refused()
        except (sqlite3.Error, OSError, MemoryError):
            raise  # the disk's fault, or the machine's: the batch is tried again
        except Exception:  # noqa: BLE001  a warning too, where the script has made errors of them
            self._refused()

    def _refused(self) -> None:
        self.book.refused += 1
        self.state("fact", "record_refused", self.book.refused)

    def _entry(self, entry: Entry, touched: dict[tuple[str, Any], None]) -> None:
        stop = self._stopped()
        if isinstance(entry, Happened):
            if stop != "all":
                self._happened(entry)
        elif isinstance(entry, Reading):
            if not stop:
                self._reading(entry)
        elif (stop := self._stopped(2 * entry.nbytes)) != "all":
            touched |= self._points(entry, COARSE if stop else 1)

    def _stopped(self, more: int = 0) -> str:
        """What the cap stops once ``more`` bytes are added; says so once for each stage."""
        stage = "all" if self.used + more > EVERYTHING_STOPS * self.cap else "readings"
        if self.used + more <= READINGS_STOP * self.cap or self.book.capped == "all":
            return self.book.capped
        if stage != self.book.capped:
            self.book.capped = stage
            self._happened(Happened(step=-1, kind="capped", data={"cap_bytes": self.cap, "stopped": stage}))
        return stage

    def _put(self, table: str, row_id: int | None, *values: codec.Plain) -> int:
        """Inserts a row, or replaces row ``row_id``."""
        copies = 1 if row_id is not None else 2
        if row_id is None:
            row_id = self.book.ids[table] + 1
        crc = codec.seal(table, row_id, *values)
        marks = ",".join("?" * len(COLUMNS[table]))
        assert self._connection is not None
        self._connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", (row_id, *values, crc))
        self.book.ids[table] = max(row_id, self.book.ids[table])
        # Once in the log, until that is folded in, and a new one in the file as well.
        self.used += copies * sum(len(v) for v in values if isinstance(v, bytes)) + _OVERHEAD
        return row_id

    def _replace(self, table: str, key: codec.Plain, *values: codec.Plain) -> None:
        """Replaces the row of that key; past the cap no new one is made."""
        row_id = self.book.keys.get((table, key))
        if row_id is None and table == "liveness" and self._stopped() == "all":
            return
        self.book.keys[table, key] = self._put(table, row_id, *values)

    def state(self, kind: str, key: codec.Plain, value: codec.Plain) -> None:
        if kind == "layers":
            value = [layer_to_plain(layer) for layer in value]
        elif kind == "wirings":
            wirings, operations = value
            value = {"wirings": [wiring_to_plain(w) for w in wirings], "loss_operations": list(operations)}
        # Values that change after the call were turned into bytes by the caller.
        plain = value if isinstance(value, bytes) else codec.dumps(value)
        mark = hash(plain)
        if self.book.written.get((kind, key)) == mark:  # most facts are told again at every flush
            return
        self.book.written[kind, key] = mark
        self._replace("state", (kind, key), kind, codec.dumps(key), len(plain), codec.deflate(plain))

    def _alive(self, optimizer: int, path: str, alive: Alive) -> None:
        units = np.ascontiguousarray(alive.units, dtype="<i4")
        if units.ndim != 2 or len(units) not in {3, 5}:
            raise ValueError(f"liveness of shape {units.shape}")
        body = codec.deflate(units.tobytes())
        name, facts = codec.encode_name(path), codec.dumps(alive.facts | {"rows": len(units)})
        self._replace("liveness", (optimizer, path), int(optimizer), name, facts, units.shape[1], body)

    def _reading(self, reading: Reading) -> None:
        packed = codec.pack_rows(reading.tally.to_array())
        if self._stopped(2 * len(packed[1])):
            return
        place = self._place(reading.site, reading.signal)
        held = self.book.windows.get(place, [])
        # A window that has grown since it was last written takes its own place.
        own = next((known for known in held if known.first == reading.first), None)
        if own is not None:
            held = [known for known in held if known is not own]
        elif len(held) > 1:
            held = self._thinned(place, held, reading.first, len(packed[1]) / (READINGS_SHARE * self.cap))
        row = own.row if own is not None else self.book.free.pop() if self.book.free else None
        self.book.bytes -= own.bytes if own is not None else 0
        window = self._window(place, row, (int(reading.first), int(reading.last)), reading.tally, packed)
        self.book.windows[place] = sorted([*held, window], key=lambda known: known.first)

    def _window(
        self, place: int, row: int | None, steps: tuple[int, int], tally: Tally, packed: tuple[str, bytes]
    ) -> Held:
        row = self._put("reading", row, place, *steps, int(tally.samples), tally.units, *packed)
        self.book.bytes += len(packed[1])
        return Held(first=steps[0], last=steps[1], units=tally.units, row=row, bytes=len(packed[1]))

    def _thinned(self, place: int, held: list[Held], first: int, more: float) -> list[Held]:
        """The windows of a place, made fewer where there is no room for one that begins at step ``first``.

        Returns:
            One less than there may be, once room has become scarce.
        """
        full = self.book.bytes / (READINGS_SHARE * self.cap) + more
        begins, self.book.newest = first > self.book.newest, max(first, self.book.newest)
        if not self.book.most:
            if full <= 1:
                return held
            self.book.most = len(held)
        elif begins and full > _FULLER:  # with the first of the new windows, so that all places do the same
            self.book.most = max(2, self.book.most - 1)
        while len(held) > self.book.most:
            # It got one more before room became scarce, and does now what the others did then.
            fewer = self._joined(place, held[:-1])
            if len(fewer) == len(held) - 1:
                break
            held = [*fewer, held[-1]]
        return held if len(held) < self.book.most else self._joined(place, held)

    def _joined(self, place: int, held: list[Held]) -> list[Held]:
        """The windows of a place with the closest two made one, the row of the second free."""
        index = thinning.closest(held)
        if index is None:
            return held
        one, other = held[index : index + 2]
        tally = self._tally(one.row).merge(self._tally(other.row))
        both = self._window(place, one.row, (one.first, other.last), tally, codec.pack_rows(tally.to_array()))
        self._put("reading", other.row, place, -1, -1, 0, 0, "", b"")
        self.book.bytes -= one.bytes + other.bytes
        self.book.free.append(other.row)
        return [*held[:index], both, *held[index + 2 :]]

    def _tally(self, row: int) -> Tally:
        """What stands in a row of table ``reading``."""
        assert self._connection is not None
        wanted = "SELECT samples, units, layout, body FROM reading WHERE id=?"
        samples, units, layout, body = self._connection.execute(wanted, (row,)).fetchone()
        return Tally.from_array(samples, codec.unpack_rows(layout, units, body))

    def _exhibit(self, key: cabinet.Key, shown: Shown) -> None:
        """Writes an exhibit in place of the one of its key, of older ones of its kind, or not at all."""
        layout, size, packed = cabinet.pack(shown.arrays)
        # Twice: in the file and in the log. What is replaced leaves its room in the file only.
        fits = bool(key[0]) and self.used + 2 * len(packed) <= EVERYTHING_STOPS * self.cap
        free = (READINGS_STOP * self.cap - self.used) / 2
        held = self.book.cabinet
        older = held.make_way(key, len(packed), cabinet.SHARE * self.cap, free) if fits else None
        for other in older or ():
            freed, _ = held.rows.pop(other)
            self._put("exhibit", freed, "", b"", -1, b"{}", b"[]", 0, codec.deflate(b""))
            held.free.append(freed)
        self._gave_way([key] if older is None else older)
        if older is None:
            return
        known = held.rows.get(key)
        row_id = known[0] if known else held.free.pop() if held.free else None
        name, form = codec.encode_name(key[1]), codec.dumps(layout)
        held.rows[key] = (
            self._put("exhibit", row_id, key[0], name, key[2], shown.facts, form, size, packed),
            len(packed),
        )

    def _gave_way(self, keys: list[cabinet.Key]) -> None:
        if keys:
            self.book.cabinet.dropped.update(kind for kind, _, _ in keys)
            self.state("fact", "exhibits_dropped", dict(self.book.cabinet.dropped))

    def _happened(self, event: Happened) -> None:
        self._put(
            "event",
            None,
            float(event.time),
            int(event.step),
            codec.encode_name(event.kind),
            codec.dumps(event.data),
        )

    def _place(self, site: Site, signal: Signal) -> int:
        known = self.book.keys.get(("place", (site, signal)))
        if known is None:
            name = codec.encode_name(site.path)
            known = self._put("place", None, name, int(site.call), str(signal))
            self.book.keys["place", (site, signal)] = known
        return known

    def _points(
        self, entry: Points | Flow | NormRow | ObjectiveRow, every: int
    ) -> dict[tuple[str, Any], None]:
        """Adds to the newest chunk of a series; returns which one."""
        if isinstance(entry, Points):
            key: tuple[str, Any] = ("stream", (int(entry.optimizer), entry.name))
            steps = entry.step + np.arange(len(entry.values), dtype=np.int64)
            kept = steps % every == 0
            columns = [steps[kept], np.asarray(entry.values, dtype="<f4")[kept]]
        elif int(entry.step) % every:
            return {}
        elif isinstance(entry, Flow):
            key = ("flow", None)
            places = [self._place(site, signal) for site, signal in entry.values]
            steps = np.full(len(places), entry.step, np.int64)
            columns = [steps, np.array(places, "<i4"), np.array(list(entry.values.values()), "<f8")]
        elif isinstance(entry, ObjectiveRow):
            key = ("objective", None)
            values = np.asarray(single(entry.values), "<f4").reshape(1, -1)
            columns = [np.array([entry.step], np.int64), values]
        else:
            key = ("norms", self._parameters(entry.parameters))
            values = np.asarray(entry.values, dtype="<f4").reshape(1, 4 * len(entry.parameters))
            columns = [np.array([entry.step], np.int64), values]
        tail = self.book.tails.setdefault(key, Tail())
        if tail.is_full:
            self._tail(*key)
            tail = self.book.tails[key] = Tail()
        tail.add(columns)
        return {key: None}

    def _parameters(self, names: tuple[str, ...]) -> int:
        number = self.book.parameters.get(names)
        if number is None:
            number = self.book.parameters[names] = len(self.book.parameters)
            self.state("parameters", number, list(names))
        return number

    def _tail(self, kind: str, key: codec.Plain) -> None:
        tail = self.book.tails[kind, key]
        rows, width, data = tail.to_bytes()
        if rows:
            body = codec.deflate(data)
            tail.row_id = self._put("series", tail.row_id, kind, codec.dumps(key), rows, width, body)
