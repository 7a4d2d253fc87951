"""A record seen from outside: has it changed, which run is it, does its writer live.

For those who watch a record while it is written. A :class:`Trace` is taken many times a second
and opens nothing; a :class:`Glance` reads one small table. Neither holds the record open: its
writer can end it, and anybody can remove it.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defib.core.errors import RecordError
from defib.record.meta import read_meta
from defib.record.process import is_alive
from defib.record.reader import STILL_WARM, files_of, status_of
from defib.record.rows import open_rank
from defib.record.schema import META, OWN_FILE

_SETTLED = 20_000_000
"""Nanoseconds after which a file's time of change is its last: kernels count it in ticks of up to 10 ms."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What the file system says of a record; two of them differ if something was written between.

    Attributes:
        files: Name, file number, bytes and time of change of each of its files.
        fresh: It was changed so recently that a further change may not show yet: look again.
    """

    files: tuple[tuple[str, int, int, int], ...]
    fresh: bool

    @property
    def last_change(self) -> float:
        """Seconds since 1970 of the newest change."""
        return max(each[3] for each in self.files) / 1e9


@dataclass(frozen=True, kw_only=True)
class Glance:
    """Which run a record is of.

    Attributes:
        run: The run's own id; another one at the same path is another run.
        status: "running", "finished", "interrupted", or how it failed.
        writers: Who writes it, a process a rank.
    """

    run: str
    status: str
    writers: tuple[dict[str, Any], ...] = ()

    @property
    def is_running(self) -> bool:
        """Whether its writers were alive when it was looked at."""
        return self.status == "running"

    def has_lost_its_writer(self, last_change: float) -> bool:
        """Whether a run that was running is so no more, without having said so: no file shows that.

        Args:
            last_change: Seconds since 1970 of the last change of its files. A writer on another machine
                cannot be asked; it is taken for gone a minute after that.

        Returns:
            Whether the record, read again, says another status.
        """
        alive = [is_alive(one) for one in self.writers] if self.is_running else []
        silent = time.time() - last_change > STILL_WARM
        return any(one is False or (one is None and silent) for one in alive)


def trace(path: Path) -> Trace | None:
    """What the file system says of a record now.

    Args:
        path: The record's folder, or one of its files.

    Returns:
        None if nothing of it is there.
    """
    try:
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries if OWN_FILE.match(entry.name))
        places = [(name, path / name) for name in names if not name.endswith("-shm")]
    except NotADirectoryError:
        places = [(path.name, path), (f"{path.name}-wal", path.with_name(f"{path.name}-wal"))]
    except (OSError, ValueError):
        return None
    files = []
    for name, place in places:
        try:
            found = os.stat(place)
        except OSError:
            continue
        files.append((name, found.st_ino, found.st_size, found.st_mtime_ns))
    newest = max((each[3] for each in files), default=0)
    return Trace(files=tuple(files), fresh=time.time_ns() - newest < _SETTLED) if files else None


def glance(path: Path) -> Glance:
    """Which run a record is of, and whether it is still written.

    Args:
        path: The record's folder, or one of its files.

    Returns:
        What the ranks that can be read say; the least finished of them counts.

    Raises:
        RecordError: If none can be read; NotFound if nothing is there.
    """  # noqa: DOC502  raised by files_of
    run: object = ""
    said: list[str] = []
    writers: list[dict[str, Any]] = []
    first: RecordError | None = None
    for file in files_of(path):
        try:
            with open_rank(file) as rank:
                said.append(status_of(rank))
                if rank.ending is None:
                    writers.append(rank.ident)
                run = rank.ident.get("run")
        except RecordError as error:
            first = first or error
    if not said:
        raise first or RecordError(f"nothing in {path} can be read")
    odd = [one for one in said if one != "finished"]
    worst = next((one for one in ("running", "interrupted") if one in odd), odd[0] if odd else "finished")
    return Glance(run=str(run), status=worst, writers=tuple(writers))


def is_record(path: Path) -> bool:
    """Whether a folder looks like a record from outside; nothing in it is opened but its small head."""
    return os.path.isfile(path / META) and read_meta(path) is not None
