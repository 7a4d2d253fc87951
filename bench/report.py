"""How long the report of a large record takes, and how heavy it is: python bench/report.py [--small].

Two records. The first has 10^6 units in 100 layers and 10^5 steps, with two windows of readings of each
signal: as many as the size limit leaves of such a run (`bench/results/diagnose_scale.md`); they are
written at once here, because a run that writes them all takes twenty minutes. The second has 200 layers
and 10^5 steps. Each report is made by `defib report` in a fresh process, three times; peak memory comes
from the kernel. The page is then opened in Chromium, from its file: first paint, and redraws after a
change of the data, a zoom and a change of colours, timed in the page. Writes bench/results/report.md.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import diagnose_scale as scale
import numpy as np
from numpy.typing import NDArray

from defib.core.site import Signal, Site
from defib.record.writer import Writer

RESULT = Path(__file__).parent / "results" / "report.md"
CHROMIUM = "/usr/bin/chromium"


def windows_of(steps: int, windows: int) -> scale.Readings:
    """Readings in so many windows of one step each, the first at step 0, the last at the end."""
    firsts = [0, *np.geomspace(steps // 50, steps - 1, windows - 1).astype(int).tolist()]

    def write(writer: Writer, sites: list[Site], last: NDArray[np.int64], rng: np.random.Generator) -> None:
        batches = {signal: [scale.tally(rng, last.shape[1], signal) for _ in range(2)] for signal in Signal}
        for number, first in enumerate(firsts):
            for layer, site in enumerate(sites):
                off = last[layer] < first
                for signal in Signal:
                    seen = scale.silenced(batches[signal][(layer + number) % 2], off, signal)
                    writer.reading(site, signal, first, first, seen)
                if layer % 10 == 9:
                    assert writer.flush(600), writer.fault

    return write


def made(record: Path, page: Path, *words: str) -> list[dict[str, float]]:
    """The report three times, each in a fresh process."""
    runs = []
    for _ in range(3):
        began = time.perf_counter()
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        command = [sys.executable, "-m", "defib", "report", str(record), "-o", str(page), *words]
        code = f"import resource, subprocess, sys; subprocess.run({command!r}, check=True, stdout=sys.stderr)"
        code += "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        runs.append({"seconds": seconds, "cpu": used, "peak": int(done.stdout) / 1024})
    return runs


LOOK = """() => {
  const paint = performance.getEntriesByName('first-contentful-paint')[0];
  const drawn = performance.now();
  const timed = (f) => {
    const began = performance.now();
    f();
    document.body.offsetHeight;
    return performance.now() - began;
  };
  const again = JSON.parse(JSON.stringify(defib.data));
  again.loss[0].values[3] += 0.01;
  again.layers[0].silent += 1;
  const end = defib.data.steps;
  return { paint: paint ? paint.startTime : NaN, drawn,
           update: timed(() => defib.update(again)),
           zoom: timed(() => defib.zoom([end / 4, end / 2])),
           theme: timed(() => defib.setTheme('dark')),
           rows: document.querySelectorAll('#network tbody tr').length };
}"""


def looked_at(page: Path) -> dict[str, float]:
    """Milliseconds in a real browser; medians of three visits."""
    from playwright.sync_api import sync_playwright

    seen = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for _ in range(3):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tab.goto(page.as_uri())
            tab.wait_for_timeout(200)
            seen.append(tab.evaluate(LOOK))
            tab.close()
        browser.close()
    return {name: statistics.median(one[name] for one in seen) for name in seen[0]}


def measured(layers: int, units: int, steps: int, windows: int) -> dict[str, Any]:
    """Writes a record, makes its report, and looks at it."""
    with tempfile.TemporaryDirectory() as folder:
        record, page = Path(folder) / "large.rec", Path(folder) / "report.html"
        scale.write(record, layers, units, steps, windows_of(steps, windows))
        plain = made(record, page, "--no-treatments")
        full = made(record, page)
        found: dict[str, Any] = {
            "what": f"{layers} layers x {units:,} units, {steps:,} steps",
            "units": layers * units,
            "record": sum(f.stat().st_size for f in record.iterdir()) / 2**20,
            "plain": statistics.median(r["seconds"] for r in plain),
            "full": statistics.median(r["seconds"] for r in full),
            "most": max(r["seconds"] for r in full),
            "cpu": statistics.median(r["cpu"] for r in full),
            "peak": max(r["peak"] for r in full),
            "size": page.stat().st_size / 2**20,
        } | looked_at(page)
    print(json.dumps(found, indent=1), flush=True)
    assert found["rows"] == layers
    return found


def text(rows: list[dict[str, Any]]) -> str:
    """The page of results."""
    cells = {
        "units": ("{units:,}", ""),
        "size of the record, MiB": ("{record:.0f}", ""),
        "**seconds for `defib report`**, median of 3": ("**{full:.1f}**", "< 10"),
        "the slowest of them": ("{most:.1f}", ""),
        "its processor seconds, median": ("{cpu:.1f}", ""),
        "without prescriptions (`--no-treatments`)": ("{plain:.1f}", ""),
        "peak memory, MiB": ("{peak:.0f}", ""),
        "**size of the page, MiB**": ("**{size:.2f}**", "< 5"),
        "first paint in Chromium, ms": ("{paint:.0f}", "< 2000"),
        "redraw after new data (`defib.update`), ms": ("{update:.0f}", "< 300"),
        "redraw of a zoom, ms": ("{zoom:.0f}", "< 300"),
        "change of colours, ms": ("{theme:.0f}", ""),
    }
    lines = [
        f"| {name} | {' | '.join(cell.format(**row) for row in rows)} | {aim} |"
        for name, (cell, aim) in cells.items()
    ]
    machine = f"Python {platform.python_version()}, numpy {np.__version__}, {platform.system()}"
    load = f"{os.cpu_count()} cores (shared with other work, load {os.getloadavg()[0]:.1f})"
    head = [
        "# The report of a large record",
        "",
        f"Command: `.venv/bin/python bench/report.py`, {time.strftime('%Y-%m-%d')}, {machine},",
        f"{load}.",
        "",
        "The record of 10^6 units has two windows of readings of each signal, as many as the size",
        "limit leaves (`diagnose_scale.md`); they are written at once here.",
        "",
        f"| what | {' | '.join(row['what'] for row in rows)} | aim |",
        f"|---|{'---|' * len(rows)}---|",
    ]
    return "\n".join([*head, *lines, ""])


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--small", action="store_true", help="a hundredth of it, printed only")
    if words.parse_args().small:
        print(text([measured(100, 100, 1000, 2), measured(20, 32, 1000, 16)]))
        return
    page = text([measured(100, 10_000, 100_000, 2), measured(200, 64, 100_000, 16)])
    print(page)
    RESULT.write_text(page)


if __name__ == "__main__":
    main()
