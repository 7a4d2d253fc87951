"""Runs experiments: each in a process of its own, several at a time, finished ones kept.

A result is a file in the lab's folder (``result.key`` names it), so that a lab that was
killed goes on where it was, and an experiment whose source has changed is run again.
"""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defib.core.errors import OutputError
from defib.lab.dials import choose
from defib.lab.index import experiment
from defib.lab.result import Order, Result, key, read, written

Told = Callable[[Order, float], None]
"""Called with an order and the share of it that is done."""

_GLANCE = 0.2
"""Seconds between two looks at how far the processes are."""


@dataclass(frozen=True, kw_only=True)
class Broken:
    """An experiment that ended without a result.

    Attributes:
        order: What was asked for.
        why: The error, in one line.
    """

    order: Order
    why: str


def conduct(
    orders: Sequence[Order], folder: Path, *, jobs: int = 0, told: Told | None = None
) -> Iterator[Result | Broken]:
    """Runs the orders that have no result yet.

    Args:
        orders: What to run.
        folder: Where results are kept; made if it is not there.
        jobs: Processes at a time; 0 for one a core.
        told: Hears how far each is.

    Yields:
        Results and failures as they come, kept results first.

    Raises:
        OutputError: If the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the lab cannot keep its results in {folder}: {error.strerror}") from None
    waiting: list[tuple[Order, Path]] = []
    for order in orders:
        path = folder / key(order, experiment(order.slug))
        kept = _kept(path)
        if kept is None:
            waiting.append((order, path))
        else:
            yield kept
    if not waiting:
        return
    for place, done in _in_parallel([order for order, _ in waiting], jobs or _cores(), told):
        if isinstance(done, Result):
            _keep(done, waiting[place][1])
        yield done


def perform(order: Order, told: Callable[[float], None] = lambda _share: None) -> Result:
    """Runs one experiment in this process, on one thread.

    Args:
        order: What to run.
        told: Hears the share done.

    Returns:
        Its result.
    """
    import torch

    from defib.lab.experiment import LabRun

    torch.set_num_threads(1)
    cls = experiment(order.slug)
    dials = choose(cls.dials, order.scale, order.overrides)
    start = time.process_time()
    measurement = cls().measure(dials, LabRun(seed=order.seed, told=told))
    return Result(
        order=order,
        dials=dict(vars(dials)),
        measurement=measurement,
        seconds=time.process_time() - start,
        torch=torch.__version__,
    )


def _in_parallel(orders: list[Order], jobs: int, told: Told | None) -> Iterator[tuple[int, Result | Broken]]:
    """Each order's place with its result or failure, as they come."""
    context = multiprocessing.get_context("spawn")
    shares = context.Array("d", len(orders), lock=False)
    jobs = min(jobs, len(orders))
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(shares,)) as pool:
        running = {pool.submit(_perform, order, place): place for place, order in enumerate(orders)}
        try:
            while running:
                ended, _ = wait(running, timeout=_GLANCE, return_when=FIRST_COMPLETED)
                if told is not None:
                    for order, share in zip(orders, shares, strict=True):
                        told(order, share)
                for future in ended:
                    place = running.pop(future)
                    yield place, _ended(future, orders[place])
        finally:
            for future in running:
                future.cancel()


_shares: Any = None
"""In a worker: the numbers that the parent reads to draw its bars."""


def _begin(shares: Any) -> None:
    global _shares  # noqa: PLW0603 - a worker's only way to keep what its initialiser was given
    _shares = shares


def _perform(order: Order, place: int) -> Result:
    def tell(share: float) -> None:
        _shares[place] = share

    return perform(order, tell)


def _ended(future: "Future[Result]", order: Order) -> Result | Broken:
    try:
        return future.result()
    except BrokenProcessPool:
        return Broken(order=order, why="its process was killed")
    except Exception as error:  # noqa: BLE001 - one broken experiment must not end the others
        return Broken(order=order, why=f"{type(error).__name__}: {error}")


def _kept(path: Path) -> Result | None:
    """An earlier result; None if there is none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        return read(path)
    return None


def _keep(result: Result, path: Path) -> None:
    """Writes a result whole or not at all."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        part.write_text(written(result), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"the lab cannot write {path}: {error.strerror}") from None


def _cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1
