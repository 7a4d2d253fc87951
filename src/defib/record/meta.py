"""The run's ``meta.json``: what the folder is, before any database is opened."""

from pathlib import Path
from typing import Any

from defib.record.codec import loads
from defib.record.schema import FORMAT, META

_LONGEST = 64 << 10


def read_meta(path: Path) -> dict[str, Any] | None:
    """What ``meta.json`` says; None if there is none, or it is not ours."""
    try:
        with open(path / META, "rb") as file:
            meta = loads(file.read(_LONGEST))
    except (OSError, ValueError):
        return None
    return meta if isinstance(meta, dict) and meta.get("format") == FORMAT else None
