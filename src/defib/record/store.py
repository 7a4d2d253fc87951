"""One rank's SQLite file while it is written: one transaction a batch, under a hard cap of bytes."""

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from defib.core.run import Reading
from defib.core.site import Signal, Site
from defib.record import codec
from defib.record.batch import Alive, Batch, Entry, Flow, Happened, NormRow, ObjectiveRow, Points
from defib.record.book import Book
from defib.record.disk import is_remote
from defib.record.nouns import layer_to_plain, wiring_to_plain
from defib.record.schema import APPLICATION_ID, COLUMNS, SCHEMA_VERSION, TABLES
from defib.record.tail import Tail

READINGS_STOP = 0.80
"""Share of the cap from which no per-unit reading is written; the rest is for streams."""

EVERYTHING_STOPS = 0.95
"""Share of the cap from which only what is replaced in place is written."""

COARSE = 16
"""Past READINGS_STOP only steps divisible by this are kept of streams, flow and norms."""

_WAL_BYTES = 4 << 20
_OVERHEAD = 600
"""Bytes that a row may cost beyond its body."""


class GoneError(OSError):
    """The record's file was removed or replaced while it was written."""


class Store:
    """A rank's file, open only while something is written. Not thread-safe.

    Args:
        path: The file; made by :meth:`create`.
        cap: Most bytes of the file.
        patience: Seconds to wait for a lock that a reader holds.
    """

    def __init__(self, path: Path, cap: int, patience: float = 1.0) -> None:
        self.path = path
        self.cap = cap
        self.patience = patience
        self.connection: sqlite3.Connection | None = None
        self._book = Book()
        self._inode: tuple[int, int] | None = None
        self._used = 0

    def create(self, ident: dict[str, Any]) -> None:
        """Makes the file with its tables and the row that says who writes it; never opens an existing one."""
        os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        self._inode = self._inode_now()
        connection = self._connect()
        # Not yet WAL: a file that lost its WAL must still have its tables.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        for sql in TABLES.values():
            connection.execute(sql)
        self._state("ident", None, ident)
        connection.execute("COMMIT")
        self.close()

    def write(self, batch: Batch) -> None:
        """Writes a batch in one transaction, or nothing of it."""
        self._must_be_there()
        before = self._book.copy()
        connection = self._open()
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._used = self._size()
            self._everything(batch)
            connection.execute("COMMIT")
        except BaseException:
            self._book = before
            if connection.in_transaction:
                connection.rollback()
            raise

    def finalise(self, status: str) -> None:
        """Says how the run ended and leaves a single file, unless a reader holds it."""
        self._must_be_there()
        connection = self._open()
        ids = dict(self._book.ids)
        self._state("ending", None, {"status": status, "time": time.time(), "rows": ids})
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA journal_mode=delete")
        except sqlite3.OperationalError:
            pass  # a reader is at it: the record is whole, it just keeps its -wal file
        self.close()

    def close(self) -> None:
        """Lets go of the file; the next write opens it again."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        if self.connection is not None:
            return self.connection
        connection = self._connect()
        journal = "truncate" if is_remote(self.path) else "wal"
        [(got,)] = connection.execute(f"PRAGMA journal_mode={journal}")
        if got != journal:
            connection.execute("PRAGMA journal_mode=truncate")
        wal = min(_WAL_BYTES, self.cap // 16)
        connection.execute(f"PRAGMA journal_size_limit={wal}")
        connection.execute(f"PRAGMA wal_autocheckpoint={max(1, wal // 4096)}")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    def _connect(self) -> sqlite3.Connection:
        self.connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw",  # rw: never makes a file anew where ours was removed
            uri=True,
            timeout=self.patience,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=32,
        )
        return self.connection

    def _must_be_there(self) -> None:
        """SQLite would go on for hours in a file that has no name any more.

        Raises:
            GoneError: If that is so.
        """
        if self._inode_now() != self._inode:
            self.close()
            raise GoneError(f"{self.path} was removed or replaced")

    def _inode_now(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _size(self) -> int:
        """Bytes of the file and of the log beside it."""
        assert self.connection is not None
        [(pages,)] = self.connection.execute("PRAGMA page_count")
        try:
            log = os.stat(f"{self.path}-wal").st_size
        except OSError:
            log = 0
        return int(pages) * 4096 + log

    # -- what goes into a transaction ---------------------------------------

    def _everything(self, batch: Batch) -> None:
        for (kind, key), value in batch.states.items():
            self._try(self._state, kind, key, value)
        for (optimizer, path), alive in batch.alive.items():
            self._try(self._alive, optimizer, path, alive)
        touched: dict[tuple[str, Any], None] = {}  # a set that keeps its order
        for entry in batch.entries:
            self._try(self._entry, entry, touched)
        for kind, key in touched:
            self._tail(kind, key)

    def _try(self, write: Callable[..., None], *args: object) -> None:
        """One thing that cannot be encoded must not stop the others."""
        try:
            write(*args)
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            self._book.refused += 1
            self._state("fact", "record_refused", self._book.refused)
        except (sqlite3.InterfaceError, sqlite3.DataError, sqlite3.ProgrammingError):
            self._book.refused += 1
            self._state("fact", "record_refused", self._book.refused)

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
        stage = "all" if self._used + more > EVERYTHING_STOPS * self.cap else "readings"
        if self._used + more <= READINGS_STOP * self.cap or self._book.capped == "all":
            return self._book.capped
        if stage != self._book.capped:
            self._book.capped = stage
            self._happened(Happened(step=-1, kind="capped", data={"cap_bytes": self.cap, "stopped": stage}))
        return stage

    def _put(self, table: str, row_id: int | None, *values: codec.Plain) -> int:
        """Inserts a row, or replaces row ``row_id``."""
        if row_id is None:
            row_id = self._book.ids[table] + 1
        crc = codec.seal(table, row_id, *values)
        marks = ",".join("?" * len(COLUMNS[table]))
        assert self.connection is not None
        self.connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", (row_id, *values, crc))
        self._book.ids[table] = max(row_id, self._book.ids[table])
        # Once in the file and once in the log, until that is folded in.
        self._used += 2 * sum(len(v) for v in values if isinstance(v, bytes)) + _OVERHEAD
        return row_id

    def _replace(self, table: str, key: codec.Plain, *values: codec.Plain) -> None:
        """Replaces the row of that key; past the cap no new one is made."""
        row_id = self._book.keys.get((table, key))
        if row_id is None and table == "liveness" and self._stopped() == "all":
            return
        self._book.keys[table, key] = self._put(table, row_id, *values)

    def _state(self, kind: str, key: codec.Plain, value: codec.Plain) -> None:
        if kind == "layers":
            value = [layer_to_plain(layer) for layer in value]
        elif kind == "wirings":
            wirings, operations = value
            value = {"wirings": [wiring_to_plain(w) for w in wirings], "loss_operations": list(operations)}
        # Values that change after the call were turned into bytes by the caller.
        plain = value if isinstance(value, bytes) else codec.dumps(value)
        self._replace("state", (kind, key), kind, codec.dumps(key), len(plain), codec.deflate(plain))

    def _alive(self, optimizer: int, path: str, alive: Alive) -> None:
        units = np.ascontiguousarray(alive.units, dtype="<i4")
        if units.ndim != 2 or len(units) != 3:
            raise ValueError(f"liveness of shape {units.shape}")
        body = codec.deflate(units.tobytes())
        name, facts = codec.encode_name(path), codec.dumps(alive.facts)
        self._replace("liveness", (optimizer, path), int(optimizer), name, facts, units.shape[1], body)

    def _reading(self, reading: Reading) -> None:
        tally = reading.tally
        layout, body = codec.pack_rows(tally.to_array())
        if self._stopped(2 * len(body)):
            return
        place = self._place(reading.site, reading.signal)
        window = int(reading.first), int(reading.last), int(tally.samples)
        # A window that has grown since it was last written takes its own place.
        key = ("reading", (place, reading.first))
        row_id = self._book.keys.get(key)
        self._book.keys[key] = self._put("reading", row_id, place, *window, tally.units, layout, body)

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
        known = self._book.keys.get(("place", (site, signal)))
        if known is None:
            name = codec.encode_name(site.path)
            known = self._put("place", None, name, int(site.call), str(signal))
            self._book.keys["place", (site, signal)] = known
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
            columns = [np.array([entry.step], np.int64), np.asarray(entry.values, "<f4").reshape(1, -1)]
        else:
            key = ("norms", self._parameters(entry.parameters))
            values = np.asarray(entry.values, dtype="<f4").reshape(1, 4 * len(entry.parameters))
            columns = [np.array([entry.step], np.int64), values]
        tail = self._book.tails.setdefault(key, Tail())
        if tail.is_full:
            self._tail(*key)
            tail = self._book.tails[key] = Tail()
        tail.add(columns)
        return {key: None}

    def _parameters(self, names: tuple[str, ...]) -> int:
        number = self._book.parameters.get(names)
        if number is None:
            number = self._book.parameters[names] = len(self._book.parameters)
            self._state("parameters", number, list(names))
        return number

    def _tail(self, kind: str, key: codec.Plain) -> None:
        tail = self._book.tails[kind, key]
        rows, width, data = tail.to_bytes()
        if rows:
            body = codec.deflate(data)
            tail.row_id = self._put("series", tail.row_id, kind, codec.dumps(key), rows, width, body)
