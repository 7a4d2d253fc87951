"""How long it takes to judge a large record, and how much memory: python bench/diagnose_scale.py.

The record of bench/record_read.py (10^6 units in 100 layers, 10^5 steps) with what
rules look at besides: the graph of the layers, all four signals and two windows of
readings of each. Read and judged in a fresh process, whose peak memory is taken
from the kernel. Writes bench/results/diagnose_scale.md.
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

LAYERS, UNITS, STEPS, WINDOWS = 100, 10_000, 100_000, 2
RESULT = Path(__file__).parent / "results" / "diagnose_scale.md"

JUDGE = """
import json, resource, sys, time
from defib.diagnosis.engine import diagnose
from defib.record.reader import read
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
run = read(sys.argv[1])
between = time.perf_counter()
found = diagnose(run)
end = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"read": between - start, "judge": end - between, "peak": peak / 1024,
                  "units": sum(len(one.first_alive) for one in run.liveness.values()), "steps": run.steps,
                  "readings": len(run.readings), "torch": "torch" in sys.modules,
                  "findings": [[f.rule, str(f.cause), len(f.units)] for f in found.findings],
                  "not_run": [str(n) for n in found.not_run]}))
"""


def write(path: Path) -> None:
    """A run that learns: in each layer one unit in ten is dead, the others fire on half of the samples."""
    from defib.core.run import Layer, Wiring
    from defib.core.site import Signal, Site
    from defib.record.writer import Writer

    rng = np.random.default_rng(0)
    writer = Writer.create(path)
    sites = [Site(path=f"blocks.{n}.fc") for n in range(LAYERS)]
    weights = tuple(f"{site.path}.weight" for site in sites)
    writer.layers(
        tuple(
            Layer(path=s.path, kind="Linear", units=UNITS, parameters=(w,), optimizer=0)
            for s, w in zip(sites, weights, strict=True)
        )
    )
    writer.wirings(
        tuple(
            Wiring(
                site=site,
                activation="relu",
                operation="ReluBackward0",
                units=UNITS,
                order=n,
                modules=(site.path,),
                inputs=(sites[n - 1],) if n else (),
                dtype="float32",
            )
            for n, site in enumerate(sites)
        ),
        ("NllLossBackward0", "LogSoftmaxBackward0"),
    )
    writer.optimizer(
        0, {"kind": "Adam", "steps": STEPS, "groups": [{"lr": 1e-3}], "parameters": list(weights)}
    )
    for step in range(0, STEPS, 100):
        loss = 2.3 * np.exp(-np.arange(step, step + 100) / 2e4) * (1 + 0.02 * rng.normal(size=100))
        writer.stream(0, step, {"loss": loss.astype("f4"), "lr": np.full(100, 1e-3, "f4")})
        sizes = 1 + 0.1 * rng.random((4, LAYERS), dtype="f4")
        writer.norms(step, weights, sizes * np.array([[1.0], [100.0], [0.1], [0.0]], "f4"))
        if step % 5000 == 0:
            assert writer.flush(60), writer.fault
    for site in sites:
        dead = rng.random(UNITS) < 0.1
        last = np.where(dead, rng.integers(1, STEPS // 2, UNITS), STEPS - 1)
        facts = {"source": "bias", "steps": STEPS, "last_step": STEPS - 1, "period": 1, "batch": 128.0}
        writer.liveness(0, site.path, facts, np.stack([last * 0, last, last + 1]).astype("i4"))
        for window in range(WINDOWS):
            first = window * (STEPS // WINDOWS)
            off = last < first
            for signal in Signal:
                writer.reading(
                    site, signal, first, first + STEPS // WINDOWS - 1, tally(rng, off, signal.value)
                )
        assert writer.flush(60), writer.fault
    writer.close("finished")
    assert writer.fault is None


def tally(rng: np.random.Generator, off: np.ndarray, signal: str):
    """What 1,280 samples look like in units of which some are off."""
    from defib.core.tally import Tally

    count = np.full(UNITS, 1280.0)
    on = np.where(off, 0.0, rng.integers(500, 780, UNITS))
    size = 1 + 0.2 * rng.random(UNITS)
    hidden = signal in {"activation", "preactivation_grad"}
    values = {
        "count": count,
        "positive": on,
        "zero": count - on if hidden else 0 * on,
        "saturated": count - on if signal == "activation" else 0 * on,
        "flat": count - on if signal == "activation" else 0 * on,
        "nonfinite": 0 * on,
        "total": 0.4 * size * on,
        "squares": size**2 * (on if hidden else count),
        "low": 0 * on if hidden else -3 * size,
        "high": np.where(on > 0, 3 * size, 0.0 if hidden else -0.1),
    }
    return Tally(samples=1280, **{name: v.astype("f4").astype("f8") for name, v in values.items()})


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.rec"
        write(path)
        size = sum(file.stat().st_size for file in path.iterdir()) / 2**20
        runs, command = [], [sys.executable, "-c", JUDGE, str(path)]
        for _ in range(3):
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout))
    one = runs[0]
    print(json.dumps(one, indent=1)[:3000])
    assert one["units"] == LAYERS * UNITS
    assert one["steps"] == STEPS
    assert not one["torch"]
    assert not one["not_run"], one["not_run"]
    assert {rule for rule, _, _ in one["findings"]} >= {"dead-unit"}
    dead = sum(units for rule, _, units in one["findings"] if rule == "dead-unit")
    least, median, most = sorted(run["read"] + run["judge"] for run in runs)
    peak = max(run["peak"] for run in runs)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        f"""\
# Judging a large record

Command: `.venv/bin/python bench/diagnose_scale.py`, {time.strftime("%Y-%m-%d")}, Python
{platform.python_version()}, numpy {np.__version__}, {platform.system()}, {os.cpu_count()} cores (shared with
other work).

| what | measured | aim |
|---|---|---|
| units, with {one["readings"]:,} readings (two of each signal) | {one["units"]:,} | 1,000,000 |
| steps (loss, lr; norms on every 100th) | {one["steps"]:,} | 100,000 |
| size of the record | {size:.0f} MiB | |
| seconds to read and judge it, median of 3 (least, most) | {median:.2f} ({least:.2f}, {most:.2f}) | < 10 |
| of these, judging | {sorted(run["judge"] for run in runs)[1]:.2f} | |
| peak memory of the process | {peak:.0f} MiB | < 1024 |
| dead units named | {dead:,} in {len(one["findings"])} findings | |
"""
    )
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
