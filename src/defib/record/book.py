"""What a writer remembers about its own file."""

from dataclasses import dataclass, field
from typing import Any

from defib.record.schema import TABLES
from defib.record.tail import Tail


@dataclass(kw_only=True)
class Book:
    """What the writer knows about its own file, so that it never has to read it.

    Attributes:
        ids: Highest id of each table.
        keys: Id of what is replaced in place, by table and key.
        tails: Newest chunk of each series, by kind and key.
        parameters: Number of each list of parameter names.
        capped: "", "readings" or "all": what the cap has stopped.
        refused: Entries that could not be encoded.
    """

    ids: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    keys: dict[tuple[str, Any], int] = field(default_factory=dict)
    tails: dict[tuple[str, Any], Tail] = field(default_factory=dict)
    parameters: dict[tuple[str, ...], int] = field(default_factory=dict)
    capped: str = ""
    refused: int = 0

    def copy(self) -> "Book":
        """A copy to go back to when a transaction fails."""
        tails = {key: tail.copy() for key, tail in self.tails.items()}
        return Book(
            ids=dict(self.ids),
            keys=dict(self.keys),
            tails=tails,
            parameters=dict(self.parameters),
            capped=self.capped,
            refused=self.refused,
        )
