"""All records that are served: where they are found, who looks, and what is read next."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from defib.core.errors import NotARecord, NotFound
from defib.dashboard.desk import Answer, Desk
from defib.dashboard.feed import Feed, State, Viewer
from defib.dashboard.keys import Keys
from defib.record.disk import shown
from defib.record.glance import Trace, is_record, trace

LOOK_EVERY = 0.2
"""Seconds between two looks at the files of a record that somebody views."""
SEARCH_EVERY = 2.0
"""Seconds between two looks into the folder, and at records that nobody views."""
MOST_RECORDS = 200
"""Records of a folder that are shown, the newest."""
MOST_VIEWERS = 64
DEEPEST = 2
"""Levels of folders that are searched below the one given."""
MOST_FOLDERS = 5000


class Hall:
    """Every record that is served, by its id.

    Args:
        root: A record, or a folder of records.
        keys: Where ids come from.
    """

    def __init__(self, root: Path, keys: Keys) -> None:
        self.root = root
        self.single = not _is_folder_of_records(root)
        self.feeds: dict[str, Feed] = {}
        self.left_out = 0
        self.desk = Desk()
        self._keys = keys
        self._epoch = secrets.token_hex(4)
        self._viewers: set[Viewer] = set()
        self._work = asyncio.Event()
        self._meet(self._found())

    # ------------------------------------------------------------ viewers

    def come(self, only: str | None) -> Viewer | None:
        """A new stream.

        Args:
            only: Id of the one record that it is about; None for all.

        Returns:
            The viewer, who has been told what there is; None if there are too many.
        """
        if len(self._viewers) >= MOST_VIEWERS:
            return None
        viewer = Viewer(only)
        self._viewers.add(viewer)
        if only is not None and only in self.feeds:
            self.feeds[only].due = 0.0  # it was perhaps resting while nobody looked
        for feed in self.feeds.values():
            if feed.state is not State.WAITING:
                viewer.give(feed.notice())
        self._work.set()
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """A stream that ended."""
        self._viewers.discard(viewer)

    @property
    def viewers(self) -> int:
        """Open streams."""
        return len(self._viewers)

    def _watched(self, feed: Feed) -> bool:
        return any(viewer.only == feed.id for viewer in self._viewers)

    def _tell(self, feed: Feed) -> None:
        notice = feed.notice()
        for viewer in self._viewers:
            viewer.give(notice)

    # ------------------------------------------------------------ work

    async def run(self) -> None:
        """Looks and reads until it is cancelled."""
        await self.desk.start()
        tasks = [asyncio.create_task(self._look()), asyncio.create_task(self._read())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            for viewer in self._viewers:
                viewer.close()
            await self.desk.close()

    async def compare(self, first: Feed, second: Feed) -> Answer:
        """A page on what changed between two records."""
        return await self.desk.ask({"do": "compare", "paths": [str(first.path), str(second.path)]})

    async def _look(self) -> None:
        """Asks the file system, in a thread: a network disk may keep it waiting."""
        loop = asyncio.get_running_loop()
        next_search = 0.0
        while True:
            feeds = list(self.feeds.values())
            everything = loop.time() >= next_search
            if everything:
                next_search = loop.time() + SEARCH_EVERY
                if not self.single:
                    self._meet(await asyncio.to_thread(self._found))
            else:
                feeds = [feed for feed in feeds if self._watched(feed)]
            traces = await asyncio.to_thread(_traces, feeds)
            for feed, found in zip(feeds, traces, strict=True):
                if feed.look(found):
                    self._tell(feed)
            if any(feed.is_stale for feed in feeds):
                self._work.set()
            await asyncio.sleep(LOOK_EVERY)

    async def _read(self) -> None:
        """Reads what is stale, what is viewed first."""
        loop = asyncio.get_running_loop()
        while True:
            feed = self._next(loop.time())
            if feed is None:
                self._work.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._work.wait(), self._pause(loop.time()))
                continue
            asked: Trace | None = feed.seen
            answer = await self.desk.ask({"do": "portray", "path": str(feed.path)})
            feed.take(answer, asked)
            feed.due = loop.time() + self._rest(feed, float(answer.head.get("seconds", 0.0)))
            if feed.id in self.feeds:
                self._tell(feed)

    def _next(self, now: float) -> Feed | None:
        """What to read now: viewed before unviewed, then what waited longest."""
        ready = [feed for feed in self._stale() if feed.due <= now]
        return min(ready, key=lambda feed: (not self._watched(feed), feed.due), default=None)

    def _pause(self, now: float) -> float:
        """Seconds until something stale is due."""
        return max(0.01, min((feed.due - now for feed in self._stale()), default=3600.0))

    def _stale(self) -> Iterator[Feed]:
        """What is worth reading: without a viewer nothing is read twice."""
        everybody = any(viewer.only is None for viewer in self._viewers)
        for feed in self.feeds.values():
            if feed.is_stale and (feed.body is None or everybody or self._watched(feed)):
                yield feed

    def _rest(self, feed: Feed, seconds: float) -> float:
        """How long a record is left alone after it was read: a training may share this machine."""
        if feed.failures:
            return min(60.0, 0.5 * 2.0**feed.failures)
        if self._watched(feed):
            return max(LOOK_EVERY, seconds if seconds < 1 else 2 * seconds)
        live = sum(each.state is State.LIVE for each in self.feeds.values())
        return max(3.0, 5 * seconds * live)  # all that are only listed together: a fifth of a core

    # ------------------------------------------------------------ the folder

    def _found(self) -> list[tuple[float, Path]]:
        """The records there are now, the newest first; unread links are not followed."""
        if self.single:
            return [(_made(self.root), self.root)]
        records: list[tuple[float, Path]] = []
        folders, looked = [(self.root, 0)], 0
        while folders and looked < MOST_FOLDERS:
            folder, depth = folders.pop()
            looked += 1
            for entry in _subfolders(folder):
                if is_record(entry):
                    records.append((_made(entry), entry))
                elif depth < DEEPEST:
                    folders.append((entry, depth + 1))
        records.sort(key=lambda each: each[0], reverse=True)
        self.left_out = max(0, len(records) - MOST_RECORDS)
        return records[:MOST_RECORDS]

    def _meet(self, found: list[tuple[float, Path]]) -> None:
        """Takes in new records; one that is gone stays, to say so."""
        for made, path in found:
            name = self._keys.run_id(path)
            if name not in self.feeds and len(self.feeds) < 2 * MOST_RECORDS:
                called = path.name if self.single else os.path.relpath(path, self.root)
                self.feeds[name] = Feed(id=name, path=path, name=called, made=made, epoch=self._epoch)


def checked(given: str) -> Path:
    """The path that was asked for, if there is anything to serve.

    Args:
        given: A record, one of its files, or a folder of records (which may still be empty).

    Returns:
        It, absolute.

    Raises:
        NotFound: If nothing is there.
        NotARecord: If it is a file of something else.
    """
    if "\0" in given or not os.path.lexists(given):
        raise NotFound(f"there is no record at {shown(given)}; check the path, or make one with `defib run`")
    path = Path(os.path.abspath(given))
    if not path.is_dir():
        from defib.record.glance import glance

        glance(path)  # raises what is wrong with it
    elif not is_record(path) and not os.access(path, os.R_OK | os.X_OK):
        raise NotARecord(f"the folder {shown(given)} may not be read; check its permissions")
    return path


def _is_folder_of_records(path: Path) -> bool:
    return path.is_dir() and not is_record(path) and trace(path) is None


def _traces(feeds: Sequence[Feed]) -> list[Trace | None]:
    return [trace(feed.path) for feed in feeds]


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []


def _made(path: Path) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
