"""One rank's file, read row by row: what is whole is used, what is not is counted."""

import os
import shutil
import sqlite3
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from defib.core.errors import NotARecord, RecordDamaged, RecordError, RecordTooNew
from defib.record.codec import AlteredError, inflate, loads, seal
from defib.record.disk import shown
from defib.record.meta import read_meta
from defib.record.schema import (
    APPLICATION_ID,
    COLUMNS,
    RANK_FILE,
    SCHEMA_VERSION,
    SINCE,
    TABLES,
    columns_of,
)

_MAGIC = b"SQLite format 3\0"

Row = tuple[Any, ...]


@dataclass(kw_only=True)
class Rank:
    """An open rank's file.

    Attributes:
        path: Where it lies.
        connection: Read only.
        schema: Version of its layout.
        ident: Who wrote it.
        ending: How it ended; None if it did not.
        states: Values of table ``state`` by kind, then by key (lists as tuples).
        lost: Rows that could not be read, by table.
    """

    path: Path
    connection: sqlite3.Connection
    schema: int = SCHEMA_VERSION
    ident: dict[str, Any] = field(default_factory=dict)
    ending: dict[str, Any] | None = None
    states: dict[str, dict[Any, Any]] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)

    def rows(self, table: str) -> Iterator[Row]:
        """Whole rows of a table in order of id, without their checksum.

        Where a page of the file is damaged the rows behind it are reached from
        the other end. Rows that are not whole are counted in ``lost``.

        Yields:
            The columns of a row.
        """
        if SINCE.get(table, 1) > self.schema:
            return
        columns = ",".join(COLUMNS[table])
        newest, broken = 0, False
        try:
            for row in self.connection.execute(f"SELECT {columns} FROM {table} ORDER BY id"):
                broken = not isinstance(row[0], int) or row[0] <= newest
                if broken:
                    break
                self.lost[table] += row[0] - newest - 1
                newest = row[0]
                if row[-1] == seal(table, *row[:-1]):
                    yield row[:-1]
                else:
                    self.lost[table] += 1
        except (sqlite3.Error, OverflowError):
            broken = True
        if broken:
            behind = self._behind(table, columns, newest)
            self.lost[table] += 1 if not behind else behind[0][0] - newest - 1
            newest = behind[-1][0] if behind else newest
            yield from behind
        rows = self.ending.get("rows") if self.ending else None
        if table != "state" and isinstance(rows, dict) and isinstance(rows.get(table), int):
            self.lost[table] += max(0, rows[table] - newest)

    def _behind(self, table: str, columns: str, newest: int) -> list[Row]:
        """Whole rows behind the damage, in order of id."""
        found: list[Row] = []
        oldest = 1 << 62
        try:
            for row in self.connection.execute(f"SELECT {columns} FROM {table} ORDER BY id DESC"):
                if not isinstance(row[0], int) or not newest < row[0] < oldest:
                    break
                oldest = row[0]
                if row[-1] == seal(table, *row[:-1]):
                    found.append(row[:-1])
        except (sqlite3.Error, OverflowError):
            pass
        return found[::-1]

    def read_states(self) -> None:
        """Fills ``ident``, ``ending`` and ``states``."""
        for _, kind, key, size, body in self.rows("state"):
            try:
                name, value = loads(key), loads(inflate(body, size))
                name = tuple(name) if isinstance(name, list) else name
                self.states.setdefault(kind.decode(), {})[name] = value
            except (AlteredError, TypeError, AttributeError, UnicodeDecodeError):
                self.lost["state"] += 1
        ident, ending = self.states.get("ident", {}).get(None), self.states.get("ending", {}).get(None)
        self.ident = ident if isinstance(ident, dict) else {}
        self.ending = ending if isinstance(ending, dict) else None


@contextmanager
def open_rank(path: Path) -> Iterator[Rank]:
    """Opens a rank's file for reading, its states read.

    Yields:
        The open file.

    Raises:
        RecordDamaged: If no row of it can be read; other RecordErrors if it is no such file.
    """
    schema = _check_header(path)
    with ExitStack() as stack:
        try:
            connection = _connect(path, schema, stack)
        except (sqlite3.Error, OSError) as error:
            raise RecordDamaged(_damaged(path, str(error))) from None
        rank = Rank(path=path, connection=connection, schema=schema)
        rank.read_states()
        if not rank.states and rank.lost:
            raise RecordDamaged(_damaged(path, "no row of it is whole"))
        yield rank


def _check_header(path: Path) -> int:
    """Looks at the first bytes before SQLite does.

    Returns:
        The schema version that they tell.

    Raises:
        RecordError: If the file may not be read.
        NotARecord: If it is something else.
        RecordDamaged: If it has our name and not our head.
        RecordTooNew: If a newer defib wrote it.
    """
    ours = RANK_FILE.match(path.name) is not None
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise NotARecord(f"{shown(path)} is not a file; give the run's folder")
        with open(path, "rb") as file:
            head = file.read(100)
    except OSError as error:
        raise RecordError(f"cannot read {shown(path)}: {error.strerror}; check its permissions") from None
    if len(head) < 100 or not head.startswith(_MAGIC):
        why = (
            "it is empty"
            if not head
            else "its head is cut off"
            if len(head) < 100
            else "its head is overwritten"
        )
        if ours:
            raise RecordDamaged(_damaged(path, why))
        raise NotARecord(_foreign(path))
    if int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        if ours:
            raise RecordDamaged(_damaged(path, "its head is altered"))
        raise NotARecord(_foreign(path))
    schema = int.from_bytes(head[60:64], "big")
    if not 1 <= schema <= SCHEMA_VERSION:
        known = (read_meta(path.parent) or {}).get("schema", schema)
        if known != schema or schema < 1:
            raise RecordDamaged(_damaged(path, "its schema version is altered"))
        raise RecordTooNew(too_new(path, schema))
    return schema


def _connect(path: Path, schema: int, stack: ExitStack) -> sqlite3.Connection:
    """Opens read-only; where that cannot be done beside the file, opens a copy."""
    connection = stack.enter_context(_closing(path, "ro"))
    try:
        return _checked(connection, schema)
    except sqlite3.OperationalError:
        # A log of a killed writer in a folder that cannot be written, or a shared
        # memory file that is gone: SQLite needs to write to read those.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="defib-")))
        for suffix in ("", "-wal", "-journal"):
            if os.path.exists(f"{path}{suffix}"):
                shutil.copyfile(f"{path}{suffix}", folder / f"copy.db{suffix}")
        return _checked(stack.enter_context(_closing(folder / "copy.db", "rw")), schema)


@contextmanager
def _closing(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=2.0, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def _checked(connection: sqlite3.Connection, schema: int) -> sqlite3.Connection:
    """Distrusts the file: its tables must be defined as ours are, and nothing else runs.

    Returns:
        The same connection.

    Raises:
        sqlite3.DatabaseError: If they are not.
    """
    connection.text_factory = bytes
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    connection.execute("PRAGMA query_only=ON")
    # Of a file that is shorter than its head says, what is there is still read.
    connection.execute("PRAGMA writable_schema=ON")
    wanted = "SELECT name, sql FROM sqlite_master WHERE type='table' AND typeof(sql)='text'"
    found = dict(connection.execute(wanted))
    for table, sql in TABLES.items():
        if SINCE.get(table, 1) > schema:
            continue
        if columns_of(found.get(table.encode(), b"").decode("utf-8", "replace")) != columns_of(sql):
            raise sqlite3.DatabaseError(f"table {table} is missing or another")
    connection.execute("BEGIN")  # one state of the file for all that follows, even while it is written
    return connection


def too_new(path: Path, schema: int) -> str:
    """One line for a record that needs a newer defib."""
    reads = f"this defib reads up to {SCHEMA_VERSION}; upgrade defib"
    return f"{shown(path)} was written by schema {schema}, {reads}"


def _foreign(path: Path) -> str:
    return f"{shown(path)} is not a defib record; give the folder that `defib run` made"


def _damaged(path: Path, why: str) -> str:
    return (
        f"the record {shown(path)} is damaged: {' '.join(why.split())}; "
        "nothing in it can be read, record the run again"
    )
