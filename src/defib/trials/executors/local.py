"""Processes on this machine."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event

from defib.trials.executor import Executor, Finished, Task, perform


class Local(Executor):
    """Runs tasks as processes of this machine, some at a time."""

    slug = "local"

    def run(self, tasks: Sequence[Task]) -> Iterator[Finished]:
        stopped = Event()
        with ThreadPoolExecutor(self.workers) as pool:
            waiting = [pool.submit(perform, task, stopped) for task in tasks]
            try:
                for done in as_completed(waiting):
                    yield done.result()
            finally:
                stopped.set()  # Ctrl-C reaches this thread only; those below would wait on
                for future in waiting:
                    future.cancel()
