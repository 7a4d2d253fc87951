"""The newest chunk of a series: it grows in memory and is replaced on disk until it is full."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FULL = 32 << 10
"""Bytes from which a chunk is left alone and a new one begun."""

Columns = list[NDArray[Any]]


@dataclass(kw_only=True)
class Tail:
    """A chunk of a series: columns of equal length, the first one steps.

    Attributes:
        row_id: Its row in table ``series``, once it has one.
        pieces: What was added, in order.
        weight: Bytes in them.
    """

    row_id: int | None = None
    pieces: list[Columns] = field(default_factory=list)
    weight: int = 0

    @property
    def is_full(self) -> bool:
        """Whether the next piece belongs into a new chunk."""
        return self.weight >= FULL

    def copy(self) -> "Tail":
        """A copy that does not grow when this one does."""
        return Tail(row_id=self.row_id, pieces=list(self.pieces), weight=self.weight)

    def add(self, columns: Columns) -> None:
        """Adds entries: one array for each column, shape (n,) or (n, width)."""
        self.pieces.append(columns)
        self.weight += sum(column.nbytes for column in columns)

    def to_bytes(self) -> tuple[int, int, bytes]:
        """Number of entries, numbers an entry, and the columns one after the other.

        Steps are written as differences, which zlib takes for almost nothing.

        Returns:
            Entries, numbers an entry, bytes.
        """
        columns = [np.concatenate(column) for column in zip(*self.pieces, strict=True)]
        self.pieces = [columns]
        steps = np.diff(columns[0], prepend=np.int64(0)).astype("<i8")
        width = columns[-1].shape[1] if columns[-1].ndim > 1 else 1
        data = [steps, *columns[1:]]
        return len(steps), width, b"".join(np.ascontiguousarray(column).tobytes() for column in data)
