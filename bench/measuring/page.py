"""The page that bench/overhead.py writes."""

import platform
import statistics
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from measuring.statistics import Estimate

if TYPE_CHECKING:
    from overhead import Result, Watched

TITLE = "# What it costs to be watched"

PEERS = """\
## Beside other tools

Not measured by this script. These ratios to the bare step are from an earlier survey on the same kind of
machine (2 virtual Xeon cores, one thread, torch 2.13, same four networks; `../shared/performance.md`,
section 1). The tools compute different things: the table compares the cost of use, not equal work.

| tool | per unit? | tiny | mlp | cnn | gpt |
|---|---|---|---|---|---|
| A/A control of that survey | | 0.970 | 0.999 | 1.017 | 1.034 |
| wandb.watch, every step | no | 19.3 | 3.7 | 1.44 | 1.55 |
| wandb.watch, every 100 steps (its default is 1000) | no | 5.1 | 1.06 to 1.12 | 1.02 | 1.02 |
| TensorBoard histograms, every step | no | 60 | 11.3 | 2.4 | 2.7 |
| TensorBoard histograms, every 100 steps | no | 1.27 | 1.03 to 1.10 | 1.01 | 1.02 |
| a pasted hook, share of zeros with `.item()` | no | 1.33 | 1.08 | 1.23 | 1.17 |
| a pasted hook, firing rate of each unit | one number | 1.41 | 1.10 | 1.25 | 1.22 |
| fastai ActivationStats | no | 1.47 | 1.01 | 1.17 | 1.20 |
| Lightning grad_norm | no | 1.47 | 1.01 | 1.02 | 0.99 |
| Composer ActivationMonitor, every step | no | 45.6 | 7.0 | 3.5 | 1.82 |
| torchexplorer, every step | no | 13.9 | 1.99 | 1.70 | 1.47 |
| torchexplorer, every 500 steps (default) | no | 2.4 | 1.16 | 1.10 | 1.01 |

What follows, and what does not: at their default intervals several of these are as good as free on large
steps, and a tool that takes one gradient norm a tensor (Lightning) is as cheap as defib there or
cheaper. What defib adds for about the same cost is *every unit*, its liveness on *every step*, and readings
as dense as the budget allows. Tools that work on every step are to be compared with "every step read".
"""


def render(results: "list[Result]", seconds: float) -> str:
    """The page, as Markdown."""
    parts = [TITLE, _head(seconds), _in_place(results), _interleaved(results), _inside(results), PEERS]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _head(seconds: float) -> str:
    return (
        "Written by `python bench/overhead.py` (method: `bench/README.md`); do not edit.\n\n"
        f"- {datetime.now(UTC):%Y-%m-%d}, defib {version('defib')}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, one thread, took {seconds:.0f} s\n"
        f"- {_processor()}, {_cores()} cores, load average {_load()} while it ran\n"
        "- Ratios in the same step cannot resolve less than about 3 % here: look at the control."
    )


def _in_place(results: "list[Result]") -> str:
    rows = []
    for r in results:
        run, bare = r.watched["default"], r.bare.median
        steady = run.own[run.steady]
        rows.append([
            r.workload.name,
            _time(bare),
            _share(steady.mean() + run.writer_steady, bare) if len(steady) else "-",
            _every(run),
            f"{_share(run.own.mean() + run.writer_a_step, bare)} ({run.steps} steps)",
            _share(_mean(r.watched["vitals"].idle) + r.watched["vitals"].writer_a_step, bare),
            _share(_mean(r.watched["every step"].own) + r.watched["every step"].writer_a_step, bare),
            _share(_mean(r.watched["with --autopsy"].own) + r.watched["with --autopsy"].writer_a_step, bare),
        ])  # fmt: skip
    columns = [
        "network", "bare step", "default, steady", "a reading every", "default, from step 0", "vitals alone",
        "every step read", "with --autopsy, from step 0",
    ]  # fmt: skip
    return (
        "## CPU time of defib's own code, in percent of the bare step\n\n"
        "Thread CPU time around every place where defib is entered in a real training step, caches as cold\n"
        "as they are there, plus the CPU time of the thread that writes the record. Means, so that readings\n"
        "and flushes are in. *Steady*: after the first three readings and the allowance of 0.1 s with which\n"
        "every run begins; *from step 0* has them in and falls the longer the run is.\n\n"
        + _table(columns, rows)
        + "\n\n"
        + "\n".join(f"- {r.workload.name}: {r.workload.what}" for r in results)
    )


def _interleaved(results: "list[Result]") -> str:
    rows = []
    for r in results:
        names = {"control": "bare again", **{n: n for n in r.watched}}
        for label, name in names.items():
            rows.append([r.workload.name, label, _ratio(r.cpu[name]), _ratio(r.wall[name])])
    return (
        "## Watched step over bare step, interleaved\n\n"
        "The same network in the same process, blocks of steps with and without defib by turns, each\n"
        "against the bare block of its round: median over the rounds and its 95 % bootstrap interval.\n"
        "*Control* is bare against bare. A median does not see what happens in few blocks: for the default\n"
        "on the large networks, where most blocks have no reading, the table above counts.\n\n"
        + _table(["network", "variant", "CPU", "wall"], rows)
    )


def _inside(results: "list[Result]") -> str:
    rows = []
    for r in results:
        default, every = r.watched["default"], r.watched["every step"]
        rows.append([
            r.workload.name,
            _time(statistics.median(r.watched["vitals"].idle)),
            _time(float(every.own[every.read].mean())),
            f"{every.hooks / every.own.sum():.0%}",
            f"{_time(default.writer_a_step)} ({_time(default.writer_steady)})",
            f"{default.claimed / (default.own.sum()):.2f}",
        ])  # fmt: skip
    columns = [
        "network", "idle step (median)", "step with a reading (mean)", "of it in gradient hooks",
        "writing, a step (steady)", "cost that defib states / cost measured",
    ]  # fmt: skip
    return "## Inside\n\n" + _table(columns, rows)


def _every(run: "Watched") -> str:
    count = int(run.read[run.steady].sum())
    return f"{len(run.own[run.steady]) / count:.0f} steps" if count else "-"


def _mean(values: "Iterable[float]") -> float:
    return statistics.fmean(values)


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"


def _share(seconds: float, bare: float) -> str:
    return f"{100 * seconds / bare:.2f} %"


def _ratio(estimate: Estimate) -> str:
    return f"{estimate.median:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _table(columns: list[str], rows: list[list[str]]) -> str:
    def lines() -> Iterator[str]:
        yield f"| {' | '.join(columns)} |"
        yield "|" + "---|" * len(columns)
        for row in rows:
            yield f"| {' | '.join(row)} |"

    return "\n".join(lines())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _cores() -> int:
    import os

    return os.cpu_count() or 1


def _load() -> str:
    import os

    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
