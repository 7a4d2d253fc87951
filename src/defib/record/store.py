"""One rank's SQLite file while it is written: opened, one transaction a batch, ended."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from defib.record.batch import Batch
from defib.record.clerk import Clerk
from defib.record.disk import is_remote
from defib.record.schema import APPLICATION_ID, SCHEMA_VERSION, TABLES

_WAL_BYTES = 4 << 20


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
        self._clerk = Clerk(cap)
        self._inode: tuple[int, int] | None = None

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
        self._clerk.at(connection, 0)
        self._clerk.state("ident", None, ident)
        connection.execute("COMMIT")
        self.close()

    def write(self, batch: Batch) -> None:
        """Writes a batch in one transaction, or nothing of it."""
        self._must_be_there()
        before = self._clerk.book.copy()
        connection = self._open()
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._clerk.at(connection, self._size())
            self._clerk.write(batch)
            connection.execute("COMMIT")
        except BaseException:
            self._clerk.book = before
            if connection.in_transaction:
                connection.rollback()
            raise

    def finalise(self, status: str) -> None:
        """Says how the run ended and leaves a single file, unless a reader holds it."""
        self._must_be_there()
        connection = self._open()
        ids = dict(self._clerk.book.ids)
        self._clerk.at(connection, 0)
        self._clerk.state("ending", None, {"status": status, "time": time.time(), "rows": ids})
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA journal_mode=delete")
        except sqlite3.OperationalError:
            pass  # a reader is at it: the record is whole, it just keeps its -wal file
        self.close()

    @property
    def beat(self) -> int:
        """A number that moves while something is written."""
        return self._clerk.beat

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
