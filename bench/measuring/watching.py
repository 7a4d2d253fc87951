"""A watch that can be paused, and timers around every place where defib runs in a training step."""

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

from defib.capture import listening, reading, taps
from defib.capture.autopsy import Autopsies
from defib.capture.governor import Governor
from defib.capture.recorder import Recorder
from defib.probe.kill import inquire
from defib.record.writer import Writer
from measuring.networks import Workload

P = ParamSpec("P")
R = TypeVar("R")


class NoReadings(Governor):
    """Reads the first step, which is needed to know the layers, and then none."""

    def due(self, step: int) -> bool:
        del step
        return False


class Pausable:
    """A recorder in service with a real record, which can be taken out of service for a while.

    Args:
        workload: What is trained.
        folder: Where the record goes.
        budget: Share of the time that may be spent.
        every: Read every N-th step; None for the budget's choice.
        readings: False for vitals alone.
        autopsy: Keep the last steps and look into deaths.
    """

    def __init__(
        self, workload: Workload, folder: Path, *, budget: float = 0.01, every: int | None = None,
        readings: bool = True, autopsy: bool = False,
    ) -> None:  # fmt: skip
        self.writer = Writer.create(folder)
        self.recorder = Recorder(self.writer, [workload.model], [workload.optimizer], budget, every)
        if not readings:
            self.recorder.governor = NoReadings(budget)
        if autopsy:
            names = self.recorder.names
            self.recorder.autopsies = Autopsies(self.writer, names, inquire, 256 << 20, given=True)
        self.watch = taps.Watch(self.recorder, self._fault)
        self._paused_at: float | None = None

    def _fault(self, error: Exception, last: bool) -> None:
        raise RuntimeError(f"defib failed in the benchmark (last: {last})") from error

    def resume(self) -> None:
        """Into service, without the time of the pause: it would earn budget."""
        if self._paused_at is not None:
            pause = time.perf_counter() - self._paused_at
            self.recorder._clocks.started += pause
            for name in ("_last_step", "_last_flush"):
                setattr(self.recorder, name, getattr(self.recorder, name) + pause)
        taps.engage(self.watch)
        if self.recorder.autopsies is not None:
            listening.engage(self.recorder.autopsies)

    def pause(self) -> None:
        """Out of service; nothing is closed."""
        taps.release(self.watch)
        if self.recorder.autopsies is not None:
            listening.release(self.recorder.autopsies)
        self._paused_at = time.perf_counter()

    def close(self) -> None:
        """The end of the run.

        Raises:
            RuntimeError: If anything went wrong inside defib: then the figures mean nothing.
        """
        taps.release(self.watch)
        self.recorder.close()
        self.writer.close("finished")
        refused = "" if self.recorder.autopsies is None else self.recorder.autopsies.why_off
        if refused:
            raise RuntimeError(f"no autopsies: {refused}")
        if self.watch.faults or self.writer.fault:
            raise RuntimeError(f"{self.watch.faults} faults in capture; record: {self.writer.fault}")

    def writer_cpu(self) -> float:
        """Seconds of CPU time that the record's thread has used."""
        pump: Any = self.writer._pump
        thread: threading.Thread | None = pump._thread
        if thread is None or thread.ident is None:
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


class Stopwatch:
    """Thread CPU time spent in defib's code inside a real training step.

    While in use, each of the four places where defib is entered is timed: the
    stand-in for ``backward`` (less the original it calls), the gradient hooks
    that run within it, and the hooks before and after the optimiser's step. The
    clock's own cost is measured and taken off.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.hooks = 0.0
        self._tick = clock_cost()

    def __enter__(self) -> "Stopwatch":
        self._was = (taps.backward, taps._original_backward, taps._step_begins, taps._step_ended,
                     reading.Reading._behind, listening._entered, listening._left)  # fmt: skip
        whole, inner, begins, ended, behind, entered, left = self._was
        listening._entered, listening._left = self._timed(entered, 1), self._timed(left, 1)
        taps._original_backward = self._timed(inner, -1)
        taps.backward = self._timed(whole, 1)
        taps._step_begins = self._timed(begins, 1)
        taps._step_ended = self._timed(ended, 1)
        reading.Reading._behind = lambda of, tap: self._timed(behind(of, tap), 1, hook=True)
        return self

    def __exit__(self, *_: object) -> None:
        (taps.backward, taps._original_backward, taps._step_begins, taps._step_ended,
         reading.Reading._behind, listening._entered, listening._left) = self._was  # fmt: skip

    def _timed(self, function: Callable[P, R], sign: int, hook: bool = False) -> Callable[P, R]:
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            start = time.thread_time()
            result = function(*args, **kwargs)
            spent = time.thread_time() - start - self._tick
            # What the timer around the original backward costs is seen by the one around ours.
            self.seconds += sign * spent - (2 * self._tick if sign < 0 else 0.0)
            self.hooks += spent if hook else 0.0
            return result

        return timed


def clock_cost() -> float:
    """Median seconds between two looks at the thread's CPU clock."""
    looks = [time.thread_time() for _ in range(4001)]
    gaps = sorted(b - a for a, b in pairwise(looks))
    return gaps[len(gaps) // 2]


def single_threaded() -> None:
    """One thread for torch, and no surprises from its pool."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
