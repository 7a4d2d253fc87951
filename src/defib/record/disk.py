"""What kind of disk a record lies on, and how its path is shown."""

import os
import sys
from pathlib import Path

_REMOTE = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "lustre",
        "gpfs",
        "beegfs",
        "glusterfs",
        "panfs",
        "virtiofs",
    }
)
"""File systems on which SQLite's shared memory, and so its WAL, cannot be relied upon."""


def is_remote(path: Path, mounts: str = "/proc/self/mountinfo") -> bool:
    """Whether a path lies on a network file system; False where that cannot be told.

    Args:
        path: An existing file or folder.
        mounts: The kernel's table of mounts.

    Returns:
        Whether it does.
    """
    real = os.path.realpath(path)
    if real.startswith("\\\\"):
        return True
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.split() for line in file]
    except OSError:
        return False
    best, kind = "", ""
    for fields in lines:
        if "-" not in fields or len(fields) < 5:
            continue
        point = _unescaped(fields[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # of two mounts on one place the later hides the first
            best, kind = point, fields[fields.index("-") + 1]
    return kind in _REMOTE or kind.startswith("fuse.")


def _unescaped(point: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, char)
    return point


def most_bytes(cap: int) -> int:
    """The cap, or less where this process may not write files of that size (ulimit -f).

    Past that limit a write may kill the process (SIGXFSZ), so it is never reached.

    Returns:
        Bytes.
    """
    if sys.platform == "win32":
        return cap
    import resource

    soft, _hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    return cap if soft == resource.RLIM_INFINITY else min(cap, soft // 2)


def shown(path: str | os.PathLike[str]) -> str:
    """A path for a message: one line, no control characters, not endless."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in os.fspath(path))
    return text if len(text) <= 300 else f"{text[:140]}...{text[-140:]}"
