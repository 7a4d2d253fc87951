"""How long it takes to judge a large record, and how much memory: python bench/diagnose_scale.py [--small].

Two records of 10^5 steps, written as a run would write them: every signal of every layer is
read on 80 steps, which lie closer together at the start, and goes through the windows of
``defib.capture.windows`` into a ``Writer`` with its usual size limit. The first has 10^6 units, of which
the limit leaves few windows; the second has 10^5, of which it leaves many. Each is read and judged in a
fresh process, whose peak memory is taken from the kernel. Writing takes about twenty minutes, most of it
for merging windows where they do not all find room. Writes bench/results/diagnose_scale.md.

Letters: ``U`` units of a layer.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defib.capture.windows import Windows
from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.core.wiring import Layer, Wiring
from defib.record.writer import Writer

LAYERS, STEPS, BATCH = 100, 100_000, 128
RESULT = Path(__file__).parent / "results" / "diagnose_scale.md"

JUDGE = """
import json, resource, sys, time
from defib.diagnosis.engine import diagnose
from defib.record.reader import read
start, used = time.perf_counter(), time.process_time()
run = read(sys.argv[1])
between = time.perf_counter()
found = diagnose(run)
end = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"read": between - start, "judge": end - between, "cpu": time.process_time() - used,
                  "peak": peak / 1024, "steps": run.steps, "torch": "torch" in sys.modules,
                  "units": sum(len(one.first_alive) for one in run.liveness.values()),
                  "readings": len(run.readings), "windows": sorted({(r.first, r.last) for r in run.readings}),
                  "unseen": [u.why for u in run.unseen],
                  "findings": [[f.rule, str(f.cause), len(f.units)] for f in found.findings],
                  "not_run": [str(n) for n in found.not_run]}))
"""


Readings = Callable[[Writer, list[Site], NDArray[np.int64], np.random.Generator], None]
"""Writes the readings of the sites, given the step at which each unit falls silent, shape (layers, U)."""


def write(path: Path, layers: int, units: int, steps: int, readings: Readings) -> Writer:
    """A run that learns: in each layer one unit in ten dies, the others fire on half of the samples."""
    rng = np.random.default_rng(0)
    writer = Writer.create(path)
    sites = [Site(path=f"blocks.{n}.fc") for n in range(layers)]
    weights = tuple(f"{site.path}.weight" for site in sites)
    draw(writer, sites, weights, units)
    writer.optimizer(
        0, {"kind": "Adam", "steps": steps, "groups": [{"lr": 1e-3}], "parameters": list(weights)}
    )
    for step in range(0, steps, 100):
        loss = 2.3 * np.exp(-np.arange(step, step + 100) / 2e4) * (1 + 0.02 * rng.normal(size=100))
        writer.stream(0, step, {"loss": loss.astype("f4"), "lr": np.full(100, 1e-3, "f4")})
        sizes = 1 + 0.1 * rng.random((4, layers), dtype="f4")
        writer.norms(step, weights, sizes * np.array([[1.0], [100.0], [0.1], [0.0]], "f4"))
        if step % 5000 == 0:
            assert writer.flush(60), writer.fault
    shape = (layers, units)
    last = np.where(rng.random(shape) < 0.1, rng.integers(1, steps // 2, shape), steps - 1)
    for site, alive in zip(sites, last, strict=True):
        facts = {"source": "bias", "steps": steps, "last_step": steps - 1, "period": 1, "batch": 1.0 * BATCH}
        silences = np.zeros_like(alive)
        state = np.stack([silences, alive, alive + 1, silences, silences])
        writer.liveness(0, site.path, facts, state.astype("i4"))
    readings(writer, sites, last, rng)
    writer.close("finished")
    assert writer.fault is None, writer.fault
    return writer


def draw(writer: Writer, sites: list[Site], weights: tuple[str, ...], units: int) -> None:
    """The layers, one after the other, and a classifier's loss."""
    writer.layers(
        tuple(
            Layer(path=s.path, kind="Linear", units=units, parameters=(w,), optimizer=0, dtypes=("float32",))
            for s, w in zip(sites, weights, strict=True)
        )
    )
    wirings = [
        Wiring(
            site=site,
            activation="relu",
            operation="ReluBackward0",
            units=units,
            order=n,
            modules=(site.path,),
            inputs=(sites[n - 1],) if n else (),
            dtype="float32",
        )
        for n, site in enumerate(sites)
    ]
    writer.wirings(tuple(wirings), ("NllLossBackward0", "LogSoftmaxBackward0"))


def watch(writer: Writer, sites: list[Site], last: NDArray[np.int64], rng: np.random.Generator) -> None:
    """The readings, through capture's own windows; between two of them the disk has time to write."""
    batches = {signal: [tally(rng, last.shape[1], signal) for _ in range(4)] for signal in Signal}
    sampled = [0, 1, 2]
    while sampled[-1] < last.max():
        sampled.append(min(max(sampled[-1] + 1, int(sampled[-1] * 1.15)), int(last.max())))
    windows = Windows()
    for number, step in enumerate(sampled):
        for layer, site in enumerate(sites):
            off = last[layer] < step
            for signal in Signal:
                if windows.due_before(step):
                    windows.write(writer, even_if_early=True)
                seen = batches[signal][(layer + number) % 4]
                windows.add(step, site, signal, silenced(seen, off, signal))
        windows.write(writer, even_if_early=step == sampled[-1])
        assert writer.flush(600), writer.fault
        print(f"step {step} is written", flush=True)


def tally(rng: np.random.Generator, units: int, signal: Signal) -> Tally:
    """What one batch of a normal distribution looks like."""
    z = rng.normal(size=(BATCH, units)).astype("f4")
    x = np.maximum(z, 0) if signal is Signal.ACTIVATION else z * (z > 0) if signal.endswith("grad") else z
    every = np.full(units, 1.0 * BATCH)
    flat = (z <= 0).sum(0) * 1.0 if signal is Signal.ACTIVATION else 0 * every
    return Tally(
        samples=BATCH,
        count=every,
        positive=(x > 0).sum(0) * 1.0,
        zero=(x == 0).sum(0) * 1.0,
        saturated=flat,
        flat=flat,
        nonfinite=0 * every,
        total=x.sum(0, dtype="f8"),
        squares=(x.astype("f8") ** 2).sum(0),
        low=x.min(0).astype("f8"),
        high=x.max(0).astype("f8"),
    )


def silenced(seen: Tally, off: NDArray[np.bool_], signal: Signal) -> Tally:
    """The same batch where the units ``off``, shape (U,), are dead."""
    if signal is Signal.ACTIVATION_GRAD:
        return seen
    none = np.where(off, 0.0, 1.0)
    if signal is Signal.PREACTIVATION:
        return replace(seen, positive=seen.positive * none, high=np.where(off, -0.1, seen.high))
    zero = np.where(off, seen.count, seen.zero)
    blank = {name: getattr(seen, name) * none for name in ("positive", "total", "squares", "low", "high")}
    if signal is Signal.ACTIVATION:
        blank |= {"flat": zero, "saturated": zero}
    return replace(seen, zero=zero, **blank)


def measured(units: int, steps: int) -> dict[str, Any]:
    """Writes a record of that many units a layer and judges it three times."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.rec"
        began = time.perf_counter()
        writer = write(path, LAYERS, units, steps, watch)
        wrote = time.perf_counter() - began
        size = sum(file.stat().st_size for file in path.iterdir()) / 2**20
        runs, command = [], [sys.executable, "-c", JUDGE, str(path)]
        for _ in range(3):
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout))
    one: dict[str, Any] = runs[0]
    print(json.dumps(one | {"findings": one["findings"][:3]}, indent=1))
    assert one["units"] == LAYERS * units
    assert one["steps"] == steps
    assert not one["torch"]
    assert not one["not_run"], one["not_run"]
    assert not one["unseen"], one["unseen"]
    one["dead"] = sum(units for rule, _, units in one["findings"] if rule == "dead-unit")
    one["seconds"] = sorted(run["read"] + run["judge"] for run in runs)
    one["judging"] = sorted(run["judge"] for run in runs)[1]
    one["cpu"] = sorted(run["cpu"] for run in runs)[1]
    one["peak"] = max(run["peak"] for run in runs)
    return one | {"size": size, "wrote": wrote, "writer": writer.seconds}


def page(large: dict[str, Any], small: dict[str, Any]) -> str:
    """The page of results."""
    rows = {
        "units": ("{units:,}", "1,000,000"),
        "steps (loss and lr; norms on every 100th)": ("{steps:,}", "100,000"),
        "readings in the record (100 layers, all four signals)": ("{readings:,}", ""),
        "windows of each that found room": ("{count}", ""),
        "size of the record, MiB": ("{size:.0f}", ""),
        "**seconds to read and judge it**, median of 3 (least, most)": (
            "**{seconds[1]:.1f}** ({seconds[0]:.1f}, {seconds[2]:.1f})",
            "< 10",
        ),
        "of these, judging": ("{judging:.1f}", ""),
        "processor seconds": ("{cpu:.1f}", ""),
        "**peak memory of the process**, MiB": ("**{peak:.0f}**", "< 1024"),
        "dead units named": ("{dead:,}", ""),
        "processor seconds that writing took beside the run": ("{writer:.0f}", ""),
    }
    for one in (large, small):
        one["count"] = len(one["windows"])
    lines = [
        f"| {name} | {cell.format(**large)} | {cell.format(**small)} | {aim} |"
        for name, (cell, aim) in rows.items()
    ]
    return "\n".join(
        [
            "# Judging a large record",
            "",
            f"Command: `.venv/bin/python bench/diagnose_scale.py`, {time.strftime('%Y-%m-%d')},",
            f"Python {platform.python_version()}, numpy {np.__version__}, {platform.system()},"
            f" {os.cpu_count()} cores"
            f" (shared with other work, load {os.getloadavg()[0]:.1f}).",
            "",
            "Written through capture's windows with the usual size limit of 256 MiB a rank.",
            "",
            "| what | 10^6 units | 10^5 units | aim |",
            "|---|---|---|---|",
            *lines,
            "",
        ]
    )


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--small", action="store_true", help="a tenth of it, printed only")
    small = words.parse_args().small
    steps = STEPS // 100 if small else STEPS
    text = page(*(measured(units // (10 if small else 1), steps) for units in (10_000, 1_000)))
    print(text)
    if not small:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
