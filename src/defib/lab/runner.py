"""Runs experiments: each in a process of its own, several at a time, finished ones kept.

A result is a file in the lab's folder (``result.key`` names it), so that a lab that was
killed goes on where it was, and an experiment whose source has changed is run again.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from defib.lab.dials import choose
from defib.lab.index import experiment
from defib.lab.parallel import Tell, Trade, carry_out
from defib.lab.result import Order, Result, key, read, written

Told = Callable[[Order, float], None]
"""Called with an order and the share of it that is done."""


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
    """  # noqa: DOC502 - the function below raises it
    trade = Trade(
        perform=perform, name=lambda order: key(order, experiment(order.slug)), read=read, write=written
    )
    for order, done in carry_out(orders, folder, trade, jobs=jobs, told=told):
        yield Broken(order=order, why=done) if isinstance(done, str) else done


def perform(order: Order, told: Tell = lambda _share: None) -> Result:
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
