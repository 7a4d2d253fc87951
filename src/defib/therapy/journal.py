"""What a treatment did, step by step, so that every step can be taken back.

Before anything is changed, how to change it back is written down: an
interruption at any moment, Ctrl-C included, leaves a journal whose reversal
restores every bit.
"""

from collections.abc import Callable, Hashable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from defib.core.errors import Refused


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One step of a treatment, with its reversal.

    Attributes:
        what: In words, with the path ("fc1.weight[3:5]").
        undo: Puts back what was there, bit for bit; harmless if the edit never happened.
        stands: Whether what the edit wrote is still there, untouched by later training.
    """

    what: str
    undo: Callable[[], None]
    stands: Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What was done, enough to undo it bit for bit.

    Attributes:
        treatment: Its slug.
        edits: In the order in which they were made.
        left: Copies of the model that were left as they were, by name.
    """

    treatment: str
    edits: tuple[Edit, ...] = field(repr=False)
    left: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[str, ...]:
        """What was changed, in words."""
        return tuple(edit.what for edit in self.edits)

    def undo(self, force: bool = False) -> None:
        """Puts everything back as it was right before the treatment.

        Args:
            force: Also where training has moved on what the treatment wrote.

        Raises:
            Refused: If training has moved on and ``force`` is not set; nothing is changed then.
        """
        moved = () if force else tuple(edit.what for edit in self.edits if not edit.stands())
        if moved:
            raise Refused(f"{self.treatment}: {moved[0]} has been trained since; undo(force=True) resets it")
        for edit in reversed(self.edits):
            edit.undo()


class Journal:
    """The edits of one treatment under way, each with its reversal."""

    def __init__(self) -> None:
        self._journal: list[Edit] = []

    def take_back(self) -> None:
        """Undo what was done so far, the last edit first."""
        while self._journal:
            self._journal[-1].undo()
            self._journal.pop()

    def _do(
        self, what: str, act: Callable[[], object], undo: Callable[[], None], stands: Callable[[], bool]
    ) -> None:
        """Write down the reversal, then act: an interruption in between undoes what never happened."""
        self._journal.append(Edit(what=what, undo=undo, stands=stands))
        act()

    def _put(self, what: str, table: MutableMapping[Any, Any], key: Hashable, value: object) -> None:
        """Sets one entry of a table, which need not have it yet."""
        before, had = table.get(key), key in table

        def back() -> None:
            if had:
                table[key] = before
            else:
                table.pop(key, None)

        self._do(what, lambda: table.__setitem__(key, value), back, lambda: same(table.get(key), value))


def same(found: object, written: object) -> bool:
    """Whether a setting is still what was written."""
    return found is written or bool(found == written)
