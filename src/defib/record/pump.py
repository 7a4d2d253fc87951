"""The thread between training and the disk: bounded, and never in training's way.

Whatever goes wrong here is kept in :attr:`Pump.fault`; nothing is raised.
A fork is survived by having no thread and no open file while it happens: the
child gets neither, the parent starts both again when it next needs them.
"""

import ctypes
import os
import sqlite3
import threading
import time
import weakref
from functools import reduce

import numpy as np

from defib.record.batch import Alive, Batch, Entry, Shown, StateKey
from defib.record.cabinet import Key
from defib.record.store import GoneError, Store

PERIOD = 0.25
"""Seconds between two transactions; capture hands over every half second at most, and what it says in
between must not hold that back."""

_GATHER = 0.03
"""Seconds from the first thing that comes to an idle thread until it writes: the rest of it comes along,
and does not wait for the next transaction."""

QUEUE_BYTES = 64 << 20
CLOSE_WITHIN = 5.0
_EVENT_PAUSE = 0.02
_LONGEST_CLOSE = 60.0
_FORK_WITHIN = 2.0
_LONGEST_BACKOFF = 30.0
PORTION = 8 << 20
"""Bytes of readings in one transaction, so that the log beside the file stays small."""

_DUTY = 10.0
"""The thread rests this many times as long as it wrote, so that it takes at most a tenth of a core."""


class Pump:
    """Collects what is to be written and writes it, one transaction a flush.

    Args:
        store: The file; touched by one thread at a time.
        limit: Most bytes that wait in memory.

    Attributes:
        fault: The last thing that went wrong, in one line; None if nothing did.
    """

    def __init__(self, store: Store, limit: int = QUEUE_BYTES) -> None:
        self.fault: str | None = None
        self._store = store
        self._limit = limit
        self._wake = threading.Condition()  # reentrant: a signal handler may train, too
        self._disk = threading.Lock()
        self._batch = Batch(limit=limit)
        self._thread: threading.Thread | None = None
        self._threadless = False
        self._resting = False
        self._stopping = False
        self._urgent = False
        self._asleep = False
        self._dead = False
        self._status: str | None = None
        self._put = 0
        self._done = 0
        self._failures = 0
        self._due = 0.0
        self.seconds = 0.0
        _pumps.add(self)

    # -- from training's side -------------------------------------------------

    def state(self, key: StateKey, value: object) -> None:
        """Replaces the latest value of something."""
        with self._wake:
            self._batch.states[key] = value
            self._noticed()

    def alive(self, optimizer: int, path: str, alive: Alive) -> None:
        """Replaces the liveness of a layer."""
        with self._wake:
            self._batch.alive[optimizer, path] = alive
            self._noticed()

    def show(self, key: Key, shown: Shown) -> None:
        """Replaces an exhibit."""
        with self._wake:
            self._batch.show(key, shown)
            self._noticed()

    def add(self, entry: Entry, urgent: bool = False) -> None:
        """Appends an entry; an urgent one is written at once."""
        with self._wake:
            self._batch.add(entry)
            self._noticed(urgent)

    def _noticed(self, urgent: bool = False) -> None:
        self._put += 1
        if self._dead:
            self._batch = Batch(limit=self._limit)
            return
        self._ensure_thread()
        self._urgent = self._urgent or urgent
        if self._asleep:
            self._due = max(self._due, time.monotonic() + _GATHER)
        if urgent or self._asleep:
            self._asleep = False
            self._wake.notify_all()
        if self._threadless and (urgent or time.monotonic() >= self._due):
            self._flush()

    def flush(self, within: float = CLOSE_WITHIN) -> bool:
        """Waits until everything put so far is on the disk.

        Args:
            within: Seconds to wait at most.

        Returns:
            Whether it is; if not, ``fault`` may say why.
        """
        until = time.monotonic() + within
        with self._wake:
            target, failures = self._put, self._failures
            if self._threadless:
                self._flush()
            self._due = 0.0
            self._wake.notify_all()
            while self._done < target and not self._dead and self._failures <= failures:
                left = until - time.monotonic()
                if left <= 0 or self._thread is None:
                    break
                self._wake.wait(left)
            return self._done >= target and not self._dead

    def close(self, status: str, within: float = CLOSE_WITHIN) -> None:
        """Writes what waits and how the run ended.

        Gives up ``within`` seconds after the disk took the last thing, and after a minute
        whatever it takes: a network of 10^6 units has a hundred megabytes to write.
        """
        with self._wake:
            self._status = status
            self._stopping = True
            self._ensure_thread(even_if_stopping=True)
            thread = self._thread
            self._wake.notify_all()
            if thread is None:
                self._last_words()
        if thread is not None:
            until = time.monotonic() + _LONGEST_CLOSE
            beat = None
            while thread.is_alive() and beat != self._store.beat and time.monotonic() < until:
                beat = self._store.beat
                thread.join(within)
            if thread.is_alive():
                self.fault = (
                    f"the disk did not answer within {within:g} s; the end of the run is not recorded"
                )
        self._dead = True
        _pumps.discard(self)

    # -- the thread -----------------------------------------------------------

    def _ensure_thread(self, even_if_stopping: bool = False) -> None:
        if self._thread is not None or self._threadless or (self._stopping and not even_if_stopping):
            return
        thread = threading.Thread(target=self._run, name="defib-record", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # out of threads, or the interpreter is going down
            self._threadless = True
        else:
            self._thread = thread
            self._due = max(self._due, time.monotonic() + PERIOD)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._stopping or self._resting or self._is_due()):
                    self._wake.wait(self._pause())
                if self._stopping or self._resting:
                    break
            self._flush()
        if self._stopping:
            self._last_words()
        else:
            with self._disk:
                self._shut()

    def _is_due(self) -> bool:
        """Whether to write now; a disk that failed is left alone for a while even then."""
        if not self._batch:
            return False
        return time.monotonic() >= self._due or (self._urgent and not self._failures)

    def _pause(self) -> float | None:
        self._asleep = not self._batch
        return None if self._asleep else max(0.0, self._due - time.monotonic())

    def _flush(self) -> None:
        """One transaction; on failure everything goes back to the front of the queue."""
        with self._disk:
            with self._wake:
                batch, target = self._batch, self._put
                self._batch = Batch(limit=self._limit)
                self._urgent = False
            began, used = time.monotonic(), time.thread_time()
            problem, left = self._write(batch)
            took = time.monotonic() - began
            self.seconds += time.thread_time() - used
            with self._wake:
                if problem is None:
                    self._failures = 0
                    self._done = target
                    self._due = time.monotonic() + max(PERIOD, min(_DUTY * took, _LONGEST_BACKOFF))
                elif isinstance(problem, GoneError):
                    self._dead = True
                else:
                    self._failures += 1
                    self._batch = left.then(self._batch)
                    backoff = min(PERIOD * 2.0 ** (self._failures - 1), _LONGEST_BACKOFF)
                    self._due = time.monotonic() + backoff
                self._wake.notify_all()
        time.sleep(0 if self._threadless else _EVENT_PAUSE)  # a storm of events is one flush each 20 ms

    def _write(self, batch: Batch) -> tuple[Exception | None, Batch]:
        """Writes a batch; if that fails, why, and what is left of it."""
        gap = batch.gap(self.fault or "the disk was slower than the run")
        if gap is not None:
            batch.entries.append(gap)
        parts = batch.portions(PORTION) if batch else []
        try:
            # The filter of warnings is the whole process's: where a script makes errors of them, one of
            # numpy's in here would end the recording.
            with np.errstate(all="ignore"):
                while parts:
                    self._store.write(parts[0])
                    del parts[0]
        except Exception as error:  # noqa: BLE001  no fault of the disk may reach training
            parts[0].entries = [entry for entry in parts[0].entries if entry is not gap]
            self.fault = _one_line(error)
            self._shut()
            return error, reduce(Batch.then, parts)
        return None, Batch(limit=self._limit)

    def _last_words(self) -> None:
        """Writes what is left and the ending; if the disk refuses, what is lost and the ending."""
        if not self._dead:
            self._flush()
        with self._disk:
            left, self._batch = self._batch, Batch(limit=self._limit)
            left.drop_all()
            try:
                if self._write(left)[0] is None and self._status is not None and not self._dead:
                    self._store.finalise(self._status)
            except Exception as error:  # noqa: BLE001  as in _write
                self.fault = _one_line(error)
            self._shut()

    def _shut(self) -> None:
        try:
            self._store.close()
        except sqlite3.Error as error:
            self.fault = _one_line(error)

    # -- forks ----------------------------------------------------------------

    def before_fork(self) -> None:
        """Stops the thread and closes the file; what waits goes on waiting."""
        with self._wake:
            thread = self._thread
            self._resting = True
            self._wake.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_FORK_WITHIN)
        elif thread is None and self._threadless and self._disk.acquire(timeout=_FORK_WITHIN):
            self._shut()
            self._disk.release()

    def after_fork_in_parent(self) -> None:
        """Starts the thread again if something waits."""
        with self._wake:
            self._resting = False
            if self._thread is not None and not self._thread.is_alive():
                self._thread = None
            if self._batch:
                self._ensure_thread()

    def after_fork_in_child(self) -> None:
        """Forgets everything: a child neither writes nor closes its parent's file."""
        connection, self._store.connection = self._store.connection, None
        if connection is not None:
            # The thread hung, so the file is still open here. To close it would fold the
            # parent's log in under its feet: this reference is never given back.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        self._wake = threading.Condition()
        self._disk = threading.Lock()
        self._thread = None
        self._batch = Batch(limit=self._limit)
        self._dead = True


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{text or type(error).__name__}"[:300]


_pumps: "weakref.WeakSet[Pump]" = weakref.WeakSet()


def _each(step: str) -> None:
    for pump in list(_pumps):
        getattr(pump, step)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _each("before_fork"),
        after_in_parent=lambda: _each("after_fork_in_parent"),
        after_in_child=lambda: _each("after_fork_in_child"),
    )
