"""Making the folder of a run: never into somebody else's, and without a race between ranks."""

import os
import shutil
import sqlite3
import time
import uuid
from pathlib import Path
from typing import Any

from defib.core.errors import OutputError, RecordError
from defib.record.codec import dumps
from defib.record.disk import shown
from defib.record.meta import read_meta
from defib.record.process import is_alive, launcher
from defib.record.rows import open_rank
from defib.record.schema import FORMAT, META, OWN_FILE, RANK_FILE, SCHEMA_VERSION, rank_file


def make(path: Path, force: bool) -> dict[str, Any]:
    """Makes a fresh folder and its ``meta.json``.

    Args:
        path: Absolute; folders above it are made.
        force: Replace what is there, if it is a defib record that nobody writes.

    Returns:
        The meta data.

    Raises:
        OutputError: If something else is there, or the folder cannot be made.
    """
    if force and os.path.lexists(path):
        _remove(path)
    meta = {
        "format": FORMAT,
        "schema": SCHEMA_VERSION,
        "run": uuid.uuid4().hex,
        "created": time.time(),
        "launcher": launcher(),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkdir(path)
    except FileExistsError:
        raise OutputError(_occupied(path)) from None
    except (OSError, ValueError) as error:
        raise OutputError(cannot(path, error)) from None
    try:
        part = path / f"{META}.part"
        with open(part, "wb") as file:
            file.write(dumps(meta))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path / META)
    except OSError as error:
        unmake(path)
        raise OutputError(cannot(path, error)) from None
    return meta


def join(path: Path, rank: int, wait: float) -> dict[str, Any]:
    """Waits until rank 0 of this job has made the folder.

    Args:
        path: The same for all ranks.
        rank: Which one asks.
        wait: Seconds to wait at most.

    Returns:
        The meta data that rank 0 wrote.

    Raises:
        OutputError: If there is no folder of this job in time.
    """
    until = time.monotonic() + wait
    while True:
        meta = read_meta(path)
        if meta is not None and _same_job(meta) and not os.path.lexists(path / rank_file(rank)):
            return meta
        if time.monotonic() >= until:
            why = "there is none" if meta is None else "the one there belongs to another run"
            raise OutputError(
                f"rank {rank} found no record of its job at {shown(path)} within {wait:g} s: {why}; "
                "give all ranks the same path on a disk they share"
            )
        time.sleep(0.05)


def _same_job(meta: dict[str, Any]) -> bool:
    theirs, ours = meta.get("launcher"), launcher()
    if not isinstance(theirs, dict) or theirs.get("job") != ours["job"]:
        return False
    if theirs.get("host") == ours["host"]:
        return bool(theirs.get("parent") == ours["parent"])
    # Another machine: its launcher has another number. The job's name is the same
    # for every start of a script with fixed ports, so it must be a new folder too.
    created = meta.get("created")
    return isinstance(created, float) and abs(time.time() - created) < 300


def _occupied(path: Path) -> str:
    if read_meta(path) is not None:
        return (
            f"there is already a record at {shown(path)}; "
            "choose another name with -o, or replace it with --force"
        )
    return f"{shown(path)} exists and is not a defib record, it is left alone; choose another name with -o"


def _remove(path: Path) -> None:
    """Removes a record, file by file, and nothing that defib did not make.

    Raises:
        OutputError: If there is anything else, or a run is writing it.
    """
    if os.path.islink(path) or not path.is_dir() or read_meta(path) is None:
        raise OutputError(_occupied(path))
    names = sorted(os.listdir(path))
    strange = [name for name in names if not OWN_FILE.match(name)]
    if strange:
        raise OutputError(
            f"{shown(path)} also holds files that are not part of a record ({shown(strange[0])}), "
            "it is left alone; choose another name with -o"
        )
    for name in names:
        if RANK_FILE.match(name) and _is_written(path / name):
            raise OutputError(f"{shown(path)} is being written by another run; choose another name with -o")
    try:
        # meta.json last: until then, if we are stopped, it is still known as a record.
        for name in sorted(names, key=lambda name: name == META):
            os.unlink(path / name)
        os.rmdir(path)
    except OSError as error:
        raise OutputError(cannot(path, error)) from None


def _is_written(file: Path) -> bool:
    try:
        with open_rank(file) as rank:
            return rank.ending is None and is_alive(rank.ident) is True
    except (RecordError, sqlite3.Error, OSError):
        return False


def unmake(path: Path) -> None:
    """Takes back a folder that :func:`make` made a moment ago."""
    shutil.rmtree(path, ignore_errors=True)


def cannot(path: str | os.PathLike[str], error: Exception) -> str:
    """One line for a record that cannot be made."""
    why = getattr(error, "strerror", None) or " ".join(str(error).split())
    return f"cannot make a record at {shown(path)}: {why}; choose another place with -o"
