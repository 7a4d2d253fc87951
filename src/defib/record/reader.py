"""Reads a record back: the whole folder, or one rank's file of it."""

import os
import time
from pathlib import Path

from defib.core.errors import NotARecord, NotFound, RecordDamaged, RecordError, RecordTooNew
from defib.core.run import RunView
from defib.record import merge
from defib.record.disk import shown
from defib.record.meta import read_meta
from defib.record.part import Part, read_part
from defib.record.process import is_alive
from defib.record.rows import Rank, open_rank, too_new
from defib.record.schema import META, RANK_FILE, SCHEMA_VERSION
from defib.record.shelf import Shelf

STILL_WARM = 60.0
"""Seconds since the last change within which a run on another machine is taken as running."""


AT_ONCE = 64 << 20
"""Bytes of unpacked readings of a rank beyond which they stay packed until they are asked for."""


def read(path: str | os.PathLike[str], *, at_once: int = AT_ONCE) -> RunView:
    """Reads a run from its folder, or from one rank's file.

    Local damage costs what it hit, which is then listed in ``RunView.unseen``. The
    run does not need the record afterwards.

    Args:
        path: ``X.rec`` or ``X.rec/rank-00000.db``.
        at_once: Bytes of a rank's readings, unpacked, up to which they are unpacked now; beyond,
            each whenever it is asked for. It changes time and memory, never what is read.

    Returns:
        All that is whole, ranks merged.

    Raises:
        NotFound: If there is nothing at that path.
        NotARecord: If something else is there.
        RecordTooNew: If a newer defib wrote it.
        RecordDamaged: If nothing in it can be read.
        RecordError: If it may not be read, or is too large for this machine's memory.
    """  # noqa: DOC502  raised by what it calls
    place = Path(path)
    try:
        files = files_of(place)
        return merge.merged(place, _parts(files, at_once))
    except MemoryError:
        raise RecordError(f"not enough memory to read {shown(place)}; read one rank's file") from None
    except (ValueError, OSError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise RecordError(f"cannot read {shown(place)}: {why}; check the path") from None


def files_of(place: Path) -> list[Path]:
    """The ranks' files, in order of rank.

    Returns:
        Their paths.

    Raises:
        NotFound: If there is nothing.
        NotARecord: If it is another folder.
        RecordTooNew: If a newer defib made it.
        RecordDamaged: If its files are gone.
    """
    if not os.path.lexists(place):
        raise NotFound(f"there is no record at {shown(place)}; check the path, or make one with `defib run`")
    if not place.is_dir():
        return [place]
    names = sorted(name for name in os.listdir(place) if RANK_FILE.match(name))
    meta = read_meta(place)
    schema = meta.get("schema") if meta else None
    if isinstance(schema, int) and schema > SCHEMA_VERSION:
        raise RecordTooNew(too_new(place, schema))
    if not names and (meta is not None or os.path.lexists(place / META)):
        raise RecordDamaged(
            f"the record {shown(place)} is damaged: it has no rank-*.db; record the run again"
        )
    if not names:
        raise NotARecord(f"{shown(place)} is not a defib record; give the folder that `defib run` made")
    return [place / name for name in names]


def _parts(files: list[Path], at_once: int) -> list[Part]:
    """What each file holds. One that cannot be read is an error only if none can.

    Returns:
        One part a file.

    Raises:
        RecordTooNew: If any is newer.
        RecordError: The first file's, if none can be read.
    """  # noqa: DOC502  kept in `first`
    parts: list[Part] = []
    shelf = Shelf()
    first: RecordError | None = None
    for file in files:
        try:
            with open_rank(file) as rank:
                part = read_part(rank, shelf, at_once)
                part.status = status_of(rank)
                parts.append(part)
        except RecordTooNew:
            raise
        except RecordError as error:
            first = first or error
            parts.append(Part(file=file, rank=len(parts), error=str(error)))
    if first is not None and all(part.error for part in parts):
        raise first
    return parts


def status_of(rank: Rank) -> str:
    """How a rank's run ended; "running" or "interrupted" where its writer has not said so."""
    if rank.ending is not None:
        status = rank.ending.get("status")
        return status if isinstance(status, str) else "finished"
    alive = is_alive(rank.ident)
    if alive is None:
        changed = max(_changed(rank.path), _changed(Path(f"{rank.path}-wal")))
        alive = time.time() - changed < STILL_WARM
    return "running" if alive else "interrupted"


def _changed(path: Path) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
