"""Exhibits: named arrays as bytes and back, and which of them a full record keeps.

Exhibits share the record's cap of bytes with everything else. They may take a
quarter of it; where a new one finds no room, the oldest of its own kind give way.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defib.record.codec import AlteredError, Plain, deflate_parts, inflate

SHARE = 0.25
"""Most of the cap that exhibits take together."""

KINDS = frozenset(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"])
"""Types of arrays that are kept, as numpy calls them without their byte order."""

GAIN = 0.5
"""Least share of its bytes that compressing a large array must save: pictures and zeros do, what ReLU leaves
does not; it would take ten times as long as storing it, and time is dearer than room."""

Key = tuple[str, str, int]
"""Kind, path and step of an exhibit."""

Layout = list[list[Any]]
"""For each array its name, its type and its shape."""

_MOST_AXES = 8


def pack(arrays: dict[str, NDArray[np.generic]]) -> tuple[Layout, int, bytes]:
    """Arrays one after the other, little-endian, under zlib; what noise fills is stored uncompressed.

    Args:
        arrays: By name; any shape.

    Returns:
        Their layout, their bytes before compression, and the compressed bytes.

    Raises:
        ValueError: If one is of another type than :data:`KINDS`, or they are too large.
    """
    layout: Layout = []
    parts = []
    for name, given in arrays.items():
        kind = given.dtype.str[1:]
        if kind not in KINDS or given.ndim > _MOST_AXES:
            raise ValueError(f"an array of {given.dtype} and {given.ndim} axes")
        layout.append([name, kind, list(given.shape)])
        parts.append(np.ascontiguousarray(given, dtype=f"<{kind}").reshape(-1).view(np.uint8).data)
    return (layout, *deflate_parts(parts, GAIN))


def unpack(layout: Plain, size: int, body: bytes) -> dict[str, NDArray[np.generic]]:
    """The inverse of :func:`pack`.

    Args:
        layout: As :func:`pack` gave it.
        size: Bytes before compression.
        body: The compressed bytes.

    Returns:
        The arrays by name, not to be written to.

    Raises:
        AlteredError: If the three do not fit each other.
    """
    data = inflate(body, size)
    arrays: dict[str, NDArray[np.generic]] = {}
    at = 0
    for name, kind, shape in layout:
        known = isinstance(name, str) and kind in KINDS and len(shape) <= _MOST_AXES
        if not known or not all(type(n) is int and n >= 0 for n in shape):
            raise AlteredError("an array of another form")
        dtype, count = np.dtype(f"<{kind}"), 1
        for length in shape:  # not numpy's product, which wraps around
            count *= length
        if at + count * dtype.itemsize > size:
            raise AlteredError("arrays longer than their bytes")
        arrays[name] = np.frombuffer(data, dtype, count, at).reshape(shape)
        at += count * dtype.itemsize
    if at != size:
        raise AlteredError("arrays shorter than their bytes")
    return arrays


@dataclass(kw_only=True)
class Cabinet:
    """What exhibits stand in a rank's file, and where.

    Attributes:
        rows: Row and bytes of each, in order of arrival.
        free: Rows whose exhibit gave way; taken again first, so that ids have no gaps.
        dropped: How many gave way or found no room, by kind.
    """

    rows: dict[Key, tuple[int, int]] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def copy(self) -> "Cabinet":
        """A copy that does not change when this one does."""
        return Cabinet(rows=dict(self.rows), free=list(self.free), dropped=self.dropped.copy())

    def make_way(self, key: Key, size: int, share: float, free: float) -> list[Key] | None:
        """Which older exhibits of its kind have to give way to one of ``size`` bytes.

        Room that is given up can be used again, so only what exceeds it makes the file grow.

        Args:
            key: The new exhibit; one of the same key is replaced.
            size: Its bytes.
            share: Most bytes of all exhibits together.
            free: By how many bytes the file may grow.

        Returns:
            Their keys, oldest first; None if it finds no room even so.
        """
        given_up = self.rows[key][1] if key in self.rows else 0
        held = sum(weight for _, weight in self.rows.values())
        older = [other for other in self.rows if other[0] == key[0] and other != key]
        for count in range(len(older) + 1):
            if held - given_up + size <= share and size - given_up <= max(0.0, free):
                return older[:count]
            given_up += self.rows[older[count]][1] if count < len(older) else 0
        return None
