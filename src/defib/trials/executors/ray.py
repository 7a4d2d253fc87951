"""A Ray cluster, or one that is started on this machine for the purpose (extra ``ray``)."""

import io
import logging
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from defib.core.errors import EnvironmentProblem
from defib.trials.executor import Executor, Finished, Task, perform


class Ray(Executor):
    """Runs tasks on Ray. The script's folder must be there under the same path on every node.

    A task's files come back through Ray's object store, so that nodes need share no disk for them.
    """

    slug = "ray"

    def run(self, tasks: Sequence[Task]) -> Iterator[Finished]:
        try:
            import ray
        except ImportError:
            raise EnvironmentProblem("--on ray needs Ray: pip install 'defib[ray]'") from None
        started = not ray.is_initialized()
        if started:
            where = {"address": f"ray://{self.address}"} if self.address else {"num_cpus": self.workers}
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **where)
        try:
            remote = ray.remote(num_cpus=1, max_retries=0)(carried)
            outputs = {remote.remote(task): task for task in tasks}
            waiting = list(outputs)
            while waiting:
                done, waiting = ray.wait(waiting, num_returns=1)
                finished, files = ray.get(done[0])
                unpack(files, outputs[done[0]].output)
                yield finished
        finally:
            if started:
                ray.shutdown()


def carried(task: Task) -> tuple[Finished, bytes]:
    """Runs a task in a folder of its own, wherever this is, and packs what it left.

    Args:
        task: What to run; its command names its output folder.

    Returns:
        How it ended, and its files as an uncompressed tar.
    """
    with TemporaryDirectory(prefix="defib-trial-") as place:
        here = Path(place) / task.output.name
        command = tuple(word.replace(str(task.output), str(here)) for word in task.command)
        finished = perform(replace(task, command=command, output=here))
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(here, arcname=".")
        return finished, packed.getvalue()


def unpack(files: bytes, output: Path) -> None:
    """Puts a task's files where they belong; nothing in them can lead outside."""
    output.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        archive.extractall(output, filter="data")
