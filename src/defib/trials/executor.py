"""Where the runs of a trial take place. One file in ``trials/executors`` for each kind of place."""

import contextlib
import math
import os
import re
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import ClassVar

from defib.core.catalogue import entries
from defib.core.errors import UsageError

PACKAGE = "defib.trials.executors"

PAUSE = 0.02
"""Seconds between two looks at a running task."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One command to run.

    Attributes:
        name: Of the job.
        command: The command line.
        folder: Where it is run: the script's own.
        output: Where its record and its ``stdout`` and ``stderr`` files go; made by whoever runs it.
        files: Texts by name, put into ``output`` before the command is run.
        limit: Wall time after which it is ended, in seconds; None for none.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    output: Path
    files: Mapping[str, str] = field(default_factory=dict)
    limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a task ended.

    Attributes:
        name: Of the job.
        code: Exit code; negative for a signal, 124 if it was ended for its time.
        seconds: Wall time.
        cpu: CPU time of the process and of those it waited for, seconds.
    """

    name: str
    code: int
    seconds: float
    cpu: float = 0.0


class Executor(ABC):
    """Runs tasks. A subclass is one file in ``trials/executors``.

    Attributes:
        slug: What ``--on`` calls it.
    """

    slug: ClassVar[str]

    def __init__(self, address: str = "", workers: int = 1) -> None:
        """Takes where and how many at a time.

        Args:
            address: What follows ``://`` in ``--on``.
            workers: Tasks at a time.
        """
        self.address = address
        self.workers = workers

    @abstractmethod
    def run(self, tasks: Sequence[Task]) -> Iterator[Finished]:
        """Runs all of them, and tells of each as it ends; their files are in ``output`` by then."""


def executor(text: str, workers: int) -> Executor:
    """The executor that ``--on`` names.

    Args:
        text: "local", "ray" or "ray://host:10001".
        workers: Tasks at a time.

    Returns:
        The executor.

    Raises:
        UsageError: If there is none of that name.
    """
    known = {cls.slug: cls for cls in entries(Executor, PACKAGE)}  # type: ignore[type-abstract]
    slug, _, address = text.partition("://")
    if slug not in known:
        raise UsageError(f"--on {text}: there are {', '.join(sorted(known))}")
    return known[slug](address, workers)


def perform(task: Task, stopped: Event | None = None) -> Finished:
    """Runs one task on this machine, its streams going to files.

    Args:
        task: What to run.
        stopped: Once this is set nobody waits for the task any more: it is ended.

    Returns:
        How it ended. An interruption of ours ends the task and its children first.
    """
    task.output.mkdir(parents=True, exist_ok=True)
    for name, text in task.files.items():
        (task.output / name).write_text(text, encoding="utf-8")
    start = time.monotonic()
    with (task.output / "stdout").open("wb") as out, (task.output / "stderr").open("wb") as err:
        process = subprocess.Popen(
            task.command,
            cwd=task.folder,
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code, cpu = _awaited(process, task.limit, stopped or Event())
        finally:
            if process.returncode is None and process.poll() is None:
                _end(process)
    return Finished(name=task.name, code=code, seconds=time.monotonic() - start, cpu=cpu)


def _awaited(process: "subprocess.Popen[bytes]", limit: float | None, stopped: Event) -> tuple[int, float]:
    """Waits for a child. The kernel tells its CPU time to whoever reaps it: that is done here.

    Returns:
        Exit code, 124 where its time ran out or it was stopped, and CPU seconds.
    """
    end = math.inf if limit is None else time.monotonic() + limit
    while time.monotonic() < end and not stopped.is_set():
        reaped, status, used = os.wait4(process.pid, os.WNOHANG)
        if reaped:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, used.ru_utime + used.ru_stime
        time.sleep(PAUSE)
    _end(process)
    return 124, 0.0


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process with all its children: first kindly, so that its record is closed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
            return


def found_in(text: str, pattern: str) -> float | None:
    """The number that a pattern's last match in a text holds; None if there is none."""
    matches = re.findall(pattern, text)
    try:
        return float(matches[-1]) if matches else None
    except ValueError:
        return None
