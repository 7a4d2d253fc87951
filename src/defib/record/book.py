"""What a writer remembers about its own file."""

from dataclasses import dataclass, field
from typing import Any

from defib.record.cabinet import Cabinet
from defib.record.schema import TABLES
from defib.record.tail import Tail
from defib.record.thinning import Held


@dataclass(kw_only=True)
class Book:
    """What the writer knows about its own file, so that it never has to read it.

    Attributes:
        ids: Highest id of each table.
        keys: Id of what is replaced in place, by table and key.
        written: A hash of what was last written of each row of ``state``.
        tails: Newest chunk of each series, by kind and key.
        parameters: Number of each list of parameter names.
        capped: "", "readings" or "all": what the cap has stopped.
        refused: Entries that could not be encoded.
        cabinet: Exhibits in the file.
        windows: Windows of readings by place, in order of time.
        bytes: Bytes of all of them.
        most: How many there may be at each place; 0 until room becomes scarce.
        newest: Step at which the newest windows begin.
        free: Rows of table ``reading`` whose window became one with another.
    """

    ids: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    keys: dict[tuple[str, Any], int] = field(default_factory=dict)
    written: dict[tuple[str, Any], int] = field(default_factory=dict)
    tails: dict[tuple[str, Any], Tail] = field(default_factory=dict)
    parameters: dict[tuple[str, ...], int] = field(default_factory=dict)
    capped: str = ""
    refused: int = 0
    cabinet: Cabinet = field(default_factory=Cabinet)
    windows: dict[int, list[Held]] = field(default_factory=dict)
    bytes: int = 0
    most: int = 0
    newest: int = -1
    free: list[int] = field(default_factory=list)

    def copy(self) -> "Book":
        """A copy to go back to when a transaction fails."""
        tails = {key: tail.copy() for key, tail in self.tails.items()}
        return Book(
            ids=dict(self.ids),
            keys=dict(self.keys),
            written=dict(self.written),
            tails=tails,
            parameters=dict(self.parameters),
            capped=self.capped,
            refused=self.refused,
            cabinet=self.cabinet.copy(),
            windows=dict(self.windows),  # its lists are replaced, never changed
            bytes=self.bytes,
            most=self.most,
            newest=self.newest,
            free=list(self.free),
        )
