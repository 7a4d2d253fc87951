"""Where a page may be put: never over somebody else's file."""

import os
from pathlib import Path

from defib.core.errors import OutputError
from defib.report.html import MARK
from defib.report.wording import escaped

_HEAD = 16_384
"""Bytes from a page's start within which it says whose it is: behind the policy and its hashes."""


def refuse_unless_free(path: Path, *, force: bool = False) -> None:
    """Refuses to write over what is not a report of ours.

    Args:
        path: The file that is to be written.
        force: Write over any file.

    Raises:
        OutputError: If something else is there, or its folder is not.
    """
    name = escaped(str(path))
    if "\0" in str(path):
        raise OutputError(f"{name} is no name of a file; name another with -o")
    if path.is_dir():
        raise OutputError(f"{name} is a folder; name a file in it with -o")
    if not path.absolute().parent.is_dir():
        raise OutputError(
            f"there is no folder {escaped(str(path.parent))}; make it, or name another file with -o"
        )
    if os.path.lexists(path) and not force and not _is_ours(path):
        raise OutputError(f"{name} is there and is no report of defib; name another file with -o, or give -f")


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(_HEAD)
    except OSError:
        return False
