"""How long it takes to read a large record, and how much memory: python bench/record_read.py.

10^6 units in 100 layers, two windows of readings of two signals each, liveness
of all of them; 10^5 steps of loss and learning rate, flow and norms on every
100th. Writes bench/results/record.md. The reading is done in a fresh process,
whose peak memory is taken from the kernel.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LAYERS, UNITS, STEPS = 100, 10_000, 100_000
RESULT = Path(__file__).parent / "results" / "record.md"

READ = """
import json, resource, sys, time
began = time.perf_counter()
from defib.record.reader import read
imported = time.perf_counter()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
run = read(sys.argv[1])
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
units = sum(len(one.first_alive) for one in run.liveness.values())
print(json.dumps({"seconds": seconds, "peak": peak / 1024, "before": before / 1024, "units": units,
                  "steps": run.steps, "readings": len(run.readings), "unseen": len(run.unseen)}))
"""


def write(path: Path) -> float:
    from defib.core.site import Signal, Site
    from defib.core.tally import Tally
    from defib.core.wiring import Layer
    from defib.record.writer import Writer

    rng = np.random.default_rng(0)
    began = time.perf_counter()
    writer = Writer.create(path)
    sites = [Site(path=f"blocks.{n}.fc") for n in range(LAYERS)]
    layers = [Layer(path=s.path, kind="Linear", units=UNITS, parameters=(f"{s.path}.weight",)) for s in sites]
    writer.layers(tuple(layers))
    writer.optimizer(0, {"kind": "Adam", "steps": STEPS})
    for step in range(0, STEPS, 100):
        loss = rng.normal(size=100).astype("f4")
        writer.stream(0, step, {"loss": loss, "lr": np.full(100, 1e-3, "f4")})
        writer.flow(
            step,
            {(site, Signal.ACTIVATION): float(v) for site, v in zip(sites, rng.random(LAYERS), strict=True)},
        )
        writer.norms(step, tuple(f"{s.path}.weight" for s in sites), rng.random((4, LAYERS), dtype="f4"))
        if step % 5000 == 0:
            assert writer.flush(60), writer.fault
    for site in sites:
        last = rng.integers(0, STEPS, UNITS)
        facts = {"source": "bias", "steps": STEPS, "last_step": STEPS - 1, "period": 1, "batch": 128.0}
        writer.liveness(0, site.path, facts, np.stack([last * 0, last, last + 1]).astype("i4"))
        for window in range(2):
            for signal in (Signal.ACTIVATION, Signal.ACTIVATION_GRAD):
                z = np.maximum(rng.normal(size=(8, UNITS)), 0).astype("f4").astype("f8")
                tally = Tally(
                    samples=8,
                    count=np.full(UNITS, 8.0),
                    positive=(z > 0).sum(0) * 1.0,
                    zero=(z == 0).sum(0) * 1.0,
                    saturated=np.zeros(UNITS),
                    flat=(z == 0).sum(0) * 1.0,
                    nonfinite=np.zeros(UNITS),
                    total=z.sum(0).astype("f4").astype("f8"),
                    squares=(z**2).sum(0).astype("f4").astype("f8"),
                    low=z.min(0),
                    high=z.max(0),
                )
                writer.reading(site, signal, window * 1000, window * 1000 + 999, tally)
        assert writer.flush(60), writer.fault
    writer.close("finished")
    assert writer.fault is None
    return time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.rec"
        written = write(path)
        size = sum(file.stat().st_size for file in path.iterdir()) / 2**20
        runs, command = [], [sys.executable, "-c", READ, str(path)]
        for _ in range(3):
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout))
    one = runs[0]
    assert one["units"] == LAYERS * UNITS
    assert one["steps"] == STEPS
    assert one["unseen"] == 0
    least, median, most = sorted(run["seconds"] for run in runs)
    peak = max(run["peak"] for run in runs)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        f"""\
# Reading a large record

Command: `python bench/record_read.py`, {time.strftime("%Y-%m-%d")}, Python {platform.python_version()},
numpy {np.__version__}, {platform.system()}, {os.cpu_count()} cores (shared with other work).

| what | measured | aim |
|---|---|---|
| units (liveness and {one["readings"]} readings) | {one["units"]:,} | 1,000,000 |
| steps (loss, lr; flow and norms on every 100th) | {one["steps"]:,} | 100,000 |
| size of the record | {size:.0f} MiB | |
| seconds to read it, median of 3 (least, most) | {median:.2f} ({least:.2f}, {most:.2f}) | < 10 |
| peak memory of the reading process | {peak:.0f} MiB | < 1024 |
| seconds to write it | {written:.1f} | |
"""
    )
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
