"""Does pieces of work in processes of their own, several at a time, and keeps what is finished.

What is finished is a file in a folder, so that work which was killed goes on where it was.
"""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from defib.core.errors import OutputError
from defib.report.whole import write_text

Piece = TypeVar("Piece")
Done = TypeVar("Done")
Tell = Callable[[float], None]
"""Called with the share of a piece of work that is done."""

_GLANCE = 0.2
"""Seconds between two looks at how far the processes are."""


@dataclass(frozen=True, kw_only=True)
class Trade(Generic[Piece, Done]):
    """How one kind of work is done and kept.

    Attributes:
        perform: Does a piece, in a process of its own; a function that can be found by its name.
        name: The file name under which a piece's result is kept.
        read: The result that a file holds; raises OSError, ValueError, KeyError or TypeError if it is none.
        write: The text of a result's file.
    """

    perform: Callable[[Piece, Tell], Done]
    name: Callable[[Piece], str]
    read: Callable[[Path], Done]
    write: Callable[[Done], str]


def carry_out(
    pieces: Sequence[Piece],
    folder: Path,
    trade: Trade[Piece, Done],
    *,
    jobs: int = 0,
    told: Callable[[Piece, float], None] | None = None,
) -> Iterator[tuple[Piece, Done | str]]:
    """Does the pieces that have no result yet.

    Args:
        pieces: What to do.
        folder: Where results are kept; made if it is not there.
        trade: How.
        jobs: Processes at a time; 0 for one a core.
        told: Hears how far each is.

    Yields:
        Each piece with its result, or with the error that ended it in one line; kept results first,
        the others as they come.

    Raises:
        OutputError: If the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the lab cannot keep its results in {folder}: {error.strerror}") from None
    waiting: list[tuple[Piece, Path]] = []
    for piece in pieces:
        path = folder / trade.name(piece)
        kept = None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = trade.read(path)
        if kept is None:
            waiting.append((piece, path))
        else:
            yield piece, kept
    if not waiting:
        return
    for place, future in _ended([piece for piece, _ in waiting], trade.perform, jobs or _cores(), told):
        piece, path = waiting[place]
        done = _outcome(future)
        if not isinstance(done, str):
            write_text(path, trade.write(done), force=True)
        yield piece, done


def _ended(
    pieces: Sequence[Piece],
    perform: Callable[[Piece, Tell], Done],
    jobs: int,
    told: Callable[[Piece, float], None] | None,
) -> "Iterator[tuple[int, Future[Done]]]":
    """Each piece's place with what came of it, as they come."""
    context = multiprocessing.get_context("spawn")
    shares = context.Array("d", len(pieces), lock=False)
    jobs = min(jobs, len(pieces))
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(shares,)) as pool:
        others = multiprocessing.active_children()
        with _uninterrupted():  # workers inherit it: Ctrl-C is for the parent, and no traceback of theirs
            running = {pool.submit(_perform, perform, piece, n): n for n, piece in enumerate(pieces)}
        try:
            while running:
                ended, _ = wait(running, timeout=_GLANCE, return_when=FIRST_COMPLETED)
                if told is not None:
                    for piece, share in zip(pieces, shares, strict=True):
                        told(piece, share)
                for future in ended:
                    yield running.pop(future), future
        except BaseException:  # nobody waits for the rest any more; each may take minutes
            for worker in multiprocessing.active_children():
                if worker not in others:
                    worker.terminate()
            raise


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Holds Ctrl-C back until the end of the block; there are no signal masks on Windows."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_shares: Any = None
"""In a worker: the numbers that the parent reads to see how far each piece is."""


def _begin(shares: Any) -> None:
    global _shares  # noqa: PLW0603 - a worker's only way to keep what its initialiser was given
    _shares = shares


def _perform(perform: Callable[[Piece, Tell], Done], piece: Piece, place: int) -> Done:
    def tell(share: float) -> None:
        _shares[place] = share

    return perform(piece, tell)


def _outcome(future: "Future[Done]") -> Done | str:
    try:
        return future.result()
    except BrokenProcessPool:
        return "its process was killed"
    except Exception as error:  # noqa: BLE001 - one broken piece must not end the others
        return f"{type(error).__name__}: {error}"


def _cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1
