"""The lab's progress on a terminal: one bar for all, one for each experiment at work."""

from collections.abc import Iterator
from pathlib import Path

from defib.lab.result import Order, Result
from defib.lab.runner import Broken, conduct


def with_bars(orders: list[Order], folder: Path, jobs: int) -> Iterator[Result | Broken]:
    """Runs the orders, drawing bars on stderr where that is a terminal.

    Args:
        orders: What to run.
        folder: Where results are kept.
        jobs: Processes at a time; 0 for one a core.

    Yields:
        What ``lab.runner.conduct`` does.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        whole = progress.add_task("experiments", total=len(orders))
        bars = {
            id(order): progress.add_task(_name(order), total=100, visible=False, start=False)
            for order in orders
        }

        def told(order: Order, share: float) -> None:
            if share > 0:
                progress.start_task(bars[id(order)])
                progress.update(bars[id(order)], completed=round(100 * share), visible=share < 1)

        for done in conduct(orders, folder, jobs=jobs, told=told):
            progress.advance(whole)
            yield done


def _name(order: Order) -> str:
    return f"{order.slug} (seed {order.seed})" if order.seed else order.slug
