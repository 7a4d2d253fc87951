"""What does it cost to be watched? Four networks, one process, one thread; writes results/overhead.md.

    python bench/overhead.py                     all, about four minutes
    python bench/overhead.py --only mlp tiny     some, printed and not written

How it is measured stands in bench/README.md.
"""

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from measuring.networks import WORKLOADS, Workload
from measuring.page import render
from measuring.statistics import Estimate, median_of
from measuring.watching import Pausable, Stopwatch, single_threaded

from defib.capture.governor import FIRST_READINGS

HERE = Path(__file__).parent
VARIANTS: dict[str, Callable[[Workload, Path], Pausable]] = {
    "default": Pausable,
    "vitals": lambda workload, folder: Pausable(workload, folder, readings=False),
    "every step": lambda workload, folder: Pausable(workload, folder, every=1),
    "with --autopsy": lambda workload, folder: Pausable(workload, folder, autopsy=True),
}


@dataclass(frozen=True, kw_only=True)
class Watched:
    """An uninterrupted watched run, with timers around our own code. Times are CPU seconds.

    Attributes:
        steps: How many.
        readings: On how many of them activations were read.
        own: Our time in the training thread on each step, shape (steps,).
        hooks: The part of ``own`` that is spent in gradient hooks, in all.
        read: Whether the step was read, shape (steps,).
        steady: Steps from the end of the allowance on, cut to whole periods between readings.
        writer: The record's thread, in all.
        writer_steady: The same while it was steady, spread over those steps.
        claimed: What defib itself says it spent.
    """

    steps: int
    readings: int
    own: np.ndarray
    hooks: float
    read: np.ndarray
    steady: slice
    writer: float
    writer_steady: float
    claimed: float

    @property
    def idle(self) -> np.ndarray:
        """Our time on steps that were not read, shape (n,)."""
        return self.own[~self.read]

    @property
    def writer_a_step(self) -> float:
        """The record's thread, spread over the steps."""
        return self.writer / self.steps


@dataclass(kw_only=True)
class Result:
    """All figures of one workload.

    Attributes:
        workload: What was trained.
        bare: CPU seconds of a bare step.
        watched: For each variant, its uninterrupted run.
        cpu: For each variant, CPU time of the training thread as a ratio to the bare step's.
        wall: The same for wall time.
    """

    workload: Workload
    bare: Estimate
    watched: dict[str, Watched] = field(default_factory=dict)
    cpu: dict[str, Estimate] = field(default_factory=dict)
    wall: dict[str, Estimate] = field(default_factory=dict)


def watched_run(workload: Workload, watch: Pausable, seconds: float) -> Watched:
    """Train from step 0 of the watch on for some seconds, timing our own code."""
    own, readings, broke = [], [], []
    written = [(0, watch.writer_cpu())]
    governor = watch.recorder.governor
    with Stopwatch() as stopwatch:
        watch.resume()
        until = time.perf_counter() + seconds
        while (now := time.perf_counter()) < until:
            if now > until - seconds + 0.1 * len(written):  # now and then: to ask costs as much as we do
                written.append((len(own), watch.writer_cpu()))
            before = stopwatch.seconds
            workload.step()
            own.append(stopwatch.seconds - before)
            readings.append(governor.readings)
            broke.append(governor.readings > FIRST_READINGS and governor._credit < governor._cost)
        watch.pause()
    spent = np.array(own)
    read = np.diff(np.array([0, *readings])) > 0
    steady = _steady(read, np.array(broke))
    at, used = np.array([*written, (len(own), watch.writer_cpu())]).T
    begun, done = np.interp([steady.start, steady.stop], at, used)
    return Watched(
        steps=len(own),
        readings=int(read.sum()),
        own=spent,
        hooks=stopwatch.hooks,
        read=read,
        steady=steady,
        writer=used[-1] - used[0],
        writer_steady=(done - begun) / max(1, steady.stop - steady.start),
        claimed=governor.spent,
    )


def _steady(read: np.ndarray, broke: np.ndarray) -> slice:
    """From where the allowance is first used up: whole periods between readings, if there are any."""
    if not broke.any():
        return slice(0, 0)
    begin = int(np.argmax(broke)) + 1
    later = begin + np.flatnonzero(read[begin:])
    return slice(int(later[0]) + 1, int(later[-1]) + 1) if len(later) > 1 else slice(begin, len(read))


def blocks(workload: Workload, watches: dict[str, Pausable]) -> dict[str, np.ndarray]:
    """Blocks of every variant by turns, forwards and backwards.

    Returns:
        For each variant, CPU and wall seconds a step of every block, shape (rounds, 2).
    """
    names = ["bare", *watches, "bare again"]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(workload.rounds):
        for name in names if turn % 2 else reversed(names):
            steps = max(1, workload.block // 8) if name == "every step" else workload.block
            with _in_service(watches.get(name)):
                cpu, wall = time.thread_time(), time.perf_counter()
                for _ in range(steps):
                    workload.step()
                spent = time.thread_time() - cpu, time.perf_counter() - wall
            times[name].append((spent[0] / steps, spent[1] / steps))
    return {name: np.array(values) for name, values in times.items()}


@contextmanager
def _in_service(watch: Pausable | None) -> Iterator[None]:
    if watch is not None:
        watch.resume()
    yield
    if watch is not None:
        watch.pause()


def measure(make: Callable[[], Workload], folder: Path) -> Result:
    """Everything about one workload."""
    workload = make()
    for _ in range(3):
        workload.step()
    watches = {name: open_(workload, folder / name) for name, open_ in VARIANTS.items()}
    gc.collect()
    watched = {}
    for name, watch in watches.items():
        share = 1.0 if name == "default" else 0.2
        watched[name] = watched_run(workload, watch, workload.seconds * share)
    times = blocks(workload, watches)
    for watch in watches.values():
        watch.close()
    bare = np.concatenate([times["bare"], times["bare again"]])
    result = Result(workload=workload, bare=median_of(bare[:, 0]), watched=watched)
    for name in [*watches, "bare again"]:
        # Each block against the bare block of the same round: the machine's mood cancels out.
        ratios = times[name] / times["bare"]
        result.cpu[name], result.wall[name] = median_of(ratios[:, 0]), median_of(ratios[:, 1])
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, help="these networks; nothing is written")
    only = parser.parse_args().only
    single_threaded()
    began = time.perf_counter()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name, make in WORKLOADS.items():
            if only is None or name in only:
                results.append(measure(make, Path(folder) / name))
                print(f"{name} measured", file=sys.stderr)
    page = render(results, time.perf_counter() - began)
    print(page)
    if only is None:
        (HERE / "results").mkdir(exist_ok=True)
        (HERE / "results" / "overhead.md").write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
