"""One record as all its viewers see it: computed once, however many look."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from defib.dashboard.desk import Answer
from defib.record.glance import Glance, Trace

_EARLY = 3
"""Failures that a record which was never read may have: it is perhaps being made at this moment."""
_PASSING = frozenset({"slow", "reader", "memory", "internal"})
"""Slugs of what may pass though the record does not change."""


class State(StrEnum):
    """What is going on at a record's place."""

    WAITING = "waiting"
    """Nothing has been read yet."""
    LIVE = "live"
    ENDED = "ended"
    GONE = "gone"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, kw_only=True)
class Notice:
    """That something about a record is new; the portrait itself is fetched apart.

    Attributes:
        feed: Which record.
        id: Name of what is to be seen; the same name, the same bytes.
        text: The whole notice as JSON.
    """

    feed: str
    id: str
    text: str


class Viewer:
    """One open stream. It holds the newest notice of each record and no older one, however slow it is."""

    def __init__(self, only: str | None) -> None:
        self.only = only
        self.closing = False
        self._newest: dict[str, Notice] = {}
        self._ready = asyncio.Event()

    def give(self, notice: Notice) -> None:
        """Puts a notice in the place of the one before."""
        if self.only in {None, notice.feed}:
            self._newest[notice.feed] = notice
            self._ready.set()

    def close(self) -> None:
        """Lets the stream end."""
        self.closing = True
        self._ready.set()

    async def take(self, patience: float) -> list[Notice]:
        """Waits for notices.

        Args:
            patience: Seconds to wait.

        Returns:
            The newest of each record; none if there was nothing new.
        """
        try:
            await asyncio.wait_for(self._ready.wait(), patience)
        except TimeoutError:
            return []
        self._ready.clear()
        found, self._newest = list(self._newest.values()), {}
        return found


@dataclass(kw_only=True)
class Feed:
    """A record, what was last read of it, and what is to be said about it.

    Attributes:
        id: Its name in addresses.
        path: Where it lies.
        name: What it is called on the pages.
        made: When its folder was made or changed last as it was found, seconds since 1970.
        epoch: Name of this start of the server: versions count from 1 in each.
        version: How often something about it was new.
        body: The portrait as JSON; None before the first.
        seen: What the file system said last.
        done: What it said before the portrait was made.
        due: When it may be read again, in the loop's time.
        at: When the portrait was made, seconds since 1970.
        failures: Times in a row that it could not be read.
        shown: How many portraits there were.
        renewed: That another run took the place of the one before; empty if none did.
    """

    id: str
    path: Path
    name: str
    epoch: str
    made: float = 0.0
    version: int = 0
    body: bytes | None = None
    state: State = State.WAITING
    note: str = ""
    head: dict[str, Any] = field(default_factory=dict)
    glance: Glance | None = None
    seen: Trace | None = None
    done: Trace | None = None
    due: float = 0.0
    at: float = 0.0
    failures: int = 0
    shown: int = 0
    renewed: str = ""

    @property
    def is_stale(self) -> bool:
        """Whether there may be more to see than the portrait shows."""
        return self.seen is not None and self.seen != self.done

    @property
    def body_id(self) -> str:
        """Name of the portrait: changes with its bytes only."""
        return f"{self.epoch}.{self.shown}"

    def look(self, found: Trace | None) -> bool:
        """Takes in what the file system says.

        Returns:
            Whether that alone is worth a notice.
        """
        before, self.seen = self.seen, found
        if found is None:
            self.done = None
            if self.state is State.GONE or (before is None and self.body is None):
                return False
            self._becomes(State.GONE, f"{self._shown_from()}the record is no longer at its place")
            return True
        if (
            self.glance is not None
            and self.done == found
            and self.glance.has_lost_its_writer(found.last_change)
        ):
            self.done = None  # read it again: it says now how it ended
        return False

    def take(self, answer: Answer, asked: Trace | None) -> None:
        """Takes in what was read.

        Args:
            answer: The portrait, or why there is none.
            asked: What the file system said before it was read.
        """
        self.done = asked
        if answer.error is not None:
            self._fails(answer)
            return
        run, status = answer.head["run"], answer.head["status"]
        if self.glance is not None and self.glance.run != run:
            self.renewed = time.strftime("another run is recorded here since %H:%M:%S")
        self.failures = 0
        self.head, self.body = answer.head, answer.body
        self.at, self.shown = time.time(), self.shown + 1
        self.glance = Glance(run=run, status=status, writers=tuple(answer.head["writers"]))
        notes = (self.renewed, "" if status == "running" else _ending(status))
        self._becomes(
            State.LIVE if status == "running" else State.ENDED, "; ".join(note for note in notes if note)
        )

    def _fails(self, answer: Answer) -> None:
        """Nothing could be read: perhaps not yet, perhaps for now, perhaps never."""
        self.failures += 1
        early = self.body is None and self.failures < _EARLY
        if early or answer.head.get("slug") in _PASSING:
            self.done = None  # to be tried again, whether or not it changes
        if self.seen is not None and not early:
            self._becomes(State.UNREADABLE, f"{self._shown_from()}{answer.error}")

    def notice(self) -> Notice:
        """What a page is told: everything but the portrait."""
        told = {
            "feed": self.id,
            "name": self.name,
            "made": self.made,
            "id": f"{self.epoch}.{self.version}",
            "body": self.body_id if self.body is not None else None,
            "run": self.glance.run if self.glance else None,
            "state": self.state.value,
            "note": self.note,
            "at": self.at,
            **{key: self.head.get(key) for key in ("verdict", "sentence", "steps", "loss")},
        }
        return Notice(feed=self.id, id=f"{self.epoch}.{self.version}", text=json.dumps(told))

    def _becomes(self, state: State, note: str) -> None:
        self.state, self.note = state, note
        self.version += 1

    def _shown_from(self) -> str:
        if self.body is None:
            return ""
        return f"shown is what was read at {time.strftime('%H:%M:%S', time.localtime(self.at))}: "


def _ending(status: str) -> str:
    """How a run ended, for people."""
    if status == "interrupted":
        return "its process is gone without having ended the record (killed?); this is all that it wrote"
    return "finished" if status == "finished" else status


def as_events(notices: list[Notice], last: str | None) -> Iterator[bytes]:
    """Notices in the form of server-sent events.

    Args:
        notices: What is new.
        last: The id that the viewer had last, as its browser says after a reconnection; that one is not
            sent again.

    Yields:
        One event each.
    """
    for notice in notices:
        if notice.id != last:
            yield f"id: {notice.id}\nevent: run\ndata: {notice.text}\n\n".encode("ascii")
