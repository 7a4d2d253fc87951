"""What the live page costs and how fast it is: python bench/serve.py [--only viewers|latency|large].

Three parts. (1) A network trains under watch in this process while `defib serve` shows its record;
by turns nobody looks and 20 viewers do, each of which fetches every new portrait. Our own code is
timed inside the training step by its thread's CPU clock, which other processes cannot lengthen but
through the caches. (2) A training in a process of its own is looked at with Chromium: how old a step is
when it is drawn. (3) A record of 10^5 steps and 200 layers: first paint, redraw, scrolling. Parts 2 and
3 need Chromium and playwright. Writes bench/results/serve.md.
"""

# ruff: noqa: E501 - the text of tables
import argparse
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
RESULT = HERE / "results" / "serve.md"
CHROMIUM = "/usr/bin/chromium"
VIEWERS, PHASE, TURNS = 20, 6.0, "ABBAABBA"
LAYERS, STEPS, UNITS = 200, 100_000, 64

TRAINING = """
import sys, time, torch, defib
from torch import nn
torch.manual_seed(0); torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
with defib.watch(model, optimizer, output=sys.argv[1], every=10):
    for step in range(1_000_000):
        x = torch.randn(32, 16)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
        optimizer.step()
        print(step + 1, time.time(), flush=True)
        time.sleep(0.01)
"""


@contextmanager
def server(record: Path) -> Iterator[tuple[str, int]]:
    """A running ``defib serve``: its address and process."""
    words = [sys.executable, "-m", "defib", "serve", str(record)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = next(filter(None, (re.search(r"http://\S+", line) for line in process.stdout)))
    try:
        yield found[0], process.pid
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


# ------------------------------------------------------------ viewers


async def viewer(port: int, path: str, cookie: str, seen: list[int]) -> None:
    """A stream, and a fetch of the portrait whenever it says that there is a new one."""

    async def ask(what: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        head = f"GET {path}{what} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookie}\r\n\r\n"
        writer.write(head.encode())
        await reader.readuntil(b"\r\n\r\n")
        return reader, writer

    reader, _ = await ask("events")
    async for line in reader:
        if line.startswith(b"data: {") and b'"body": "' in line:
            portrait, writer = await ask("state")
            seen[0] += 1
            seen[1] += len(await portrait.read())
            writer.close()


def view(address: str, count: int) -> None:
    """Some viewers, until the process is ended; says how much they have fetched each second."""
    from http.cookiejar import CookieJar
    from urllib.request import HTTPCookieProcessor, build_opener

    jar = CookieJar()
    entry = build_opener(HTTPCookieProcessor(jar)).open(address).read().decode()
    path = re.search(r"url=([^\"]+)", entry)
    port = re.search(r":(\d+)/", address)
    assert path is not None
    assert port is not None
    [cookie] = jar
    seen = [0, 0]

    async def all_of_them() -> None:
        tasks = [
            asyncio.create_task(viewer(int(port[1]), path[1], f"{cookie.name}={cookie.value}", seen))
            for _ in range(count)
        ]
        while True:
            await asyncio.wait(tasks, timeout=0.5)
            print(*seen, flush=True)

    asyncio.run(all_of_them())


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and its children that still run."""
    children = subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid="], check=False, capture_output=True, text=True
    )
    total = 0
    for each in [str(pid), *children.stdout.split()]:
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def viewers(folder: Path) -> dict[str, Any]:
    """Phases without and with viewers by turns, in one training."""
    from measuring.networks import wide
    from measuring.watching import Pausable, Stopwatch, single_threaded

    single_threaded()
    workload = wide()
    watch = Pausable(workload, folder / "viewed.rec", every=10)
    phases: dict[str, list[dict[str, float]]] = {"A": [], "B": []}
    with Stopwatch() as stopwatch, server(folder / "viewed.rec") as (address, pid):
        watch.resume()
        for _ in range(100):
            workload.step()
        for turn in TURNS:
            crowd = crowded(address) if turn == "B" else None
            phases[turn].append(phase(workload, watch, stopwatch, pid))
            if crowd is not None:
                phases[turn][-1] |= dispersed(crowd)
        watch.pause()
    watch.close()
    return phases


def crowded(address: str) -> "subprocess.Popen[str]":
    """The viewers, once they have fetched something."""
    words = [sys.executable, str(Path(__file__)), "--view", address]
    crowd = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert crowd.stdout is not None
    while int(crowd.stdout.readline().split()[0]) < VIEWERS:
        pass
    return crowd


def dispersed(crowd: "subprocess.Popen[str]") -> dict[str, float]:
    """Ends them; what they fetched."""
    crowd.terminate()
    out, _ = crowd.communicate()
    fetched, size = (int(x) for x in out.splitlines()[-2].split())
    return {"portraits": fetched, "megabytes": size / 1e6}


def phase(workload: Any, watch: Any, stopwatch: Any, pid: int) -> dict[str, float]:
    """Some seconds of training."""
    own, read = [], []
    governor = watch.recorder.governor
    cpu, wall, there, pump = time.thread_time(), time.perf_counter(), cpu_of(pid), watch.writer_cpu()
    while time.perf_counter() - wall < PHASE:
        before, readings = stopwatch.seconds, governor.readings
        workload.step()
        own.append(stopwatch.seconds - before)
        read.append(governor.readings > readings)
    seconds = time.perf_counter() - wall
    spent, taken = np.array(own), np.array(read)
    return {
        "steps": len(own),
        "idle": float(np.median(spent[~taken])),
        "read": float(np.median(spent[taken])),
        "mean": float(spent.mean()),
        "writer": (watch.writer_cpu() - pump) / len(own),
        "cpu": (time.thread_time() - cpu) / len(own),
        "wall": seconds / len(own),
        "server": (cpu_of(pid) - there) / seconds,
    }


# ------------------------------------------------------------ the browser


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM)
        yield running
        running.close()


def latency(folder: Path, seconds: float = 25.0) -> list[float]:
    """Ages of steps at the moment when they were first drawn."""
    path = folder / "live.rec"
    words = [sys.executable, "-c", TRAINING, str(path)]
    with (folder / "times").open("w") as out:
        training = subprocess.Popen(words, stdout=out, cwd=folder)
    try:
        while not path.exists() or (folder / "times").stat().st_size < 2000:
            time.sleep(0.1)
        with server(path) as (address, _), browser() as chromium:
            page = chromium.new_page()
            page.goto(address)
            page.wait_for_selector("[data-shown]", state="attached")
            drawn, opened = [], time.time()
            while time.time() < opened + seconds:
                drawn.append(page.evaluate("[defib.data.steps, Date.now() / 1000]"))
                time.sleep(0.03)
    finally:
        training.kill()
        training.wait()
    lines = (folder / "times").read_text().splitlines()[:-1]
    times = {int(step): float(when) for step, when in map(str.split, lines)}
    # The first step that a redraw brought was taken right after the last one drawn before.
    return [
        when - times[before + 1]
        for (before, _), (step, when) in pairwise(drawn)
        if step != before and times.get(before + 1, 0.0) > opened
    ]


def large(folder: Path) -> dict[str, Any]:
    """A record of many steps and layers, opened, redrawn and scrolled."""
    path = folder / "large.rec"
    write_large(path)
    found: dict[str, Any] = {"record": sum(f.stat().st_size for f in path.iterdir()) / 2**20}
    with server(path) as (address, _), browser() as chromium:
        context = chromium.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        began = time.perf_counter()
        page.goto(address)
        page.wait_for_selector("[data-shown]", state="attached", timeout=120_000)
        found["cold"] = time.perf_counter() - began
        found["steps"] = page.evaluate("defib.data.steps")
        firsts = []
        for _ in range(5):
            page.reload()
            page.wait_for_selector("[data-shown]", state="attached")
            firsts.append(page.evaluate(PAINTED))
        redraws = [page.evaluate(REDRAW) for _ in range(9)]
        found["anew"] = [page.evaluate(REDRAW.replace("defib.update", "defib.show")) for _ in range(9)]
        frames = page.evaluate(SCROLL)
        found["bytes"] = page.evaluate("fetch('state').then(r => r.text()).then(t => t.length)")
        found["layers"] = page.evaluate("defib.data.layers.length")
    return found | {"first": firsts, "redraw": redraws, "frames": frames}


PAINTED = (
    "new Promise(done => requestAnimationFrame(() => setTimeout(() => done(performance.now() / 1000), 0)))"
)
REDRAW = """fetch('state').then(r => r.json()).then(data => new Promise(done => {
  data.steps += 1000;
  for (const series of data.loss) series.values = series.values.map(v => v * (1 + 0.1 * Math.random()));
  for (const layer of data.layers) layer.silent = [];
  const began = performance.now();
  defib.update(data);
  requestAnimationFrame(() => setTimeout(() => done((performance.now() - began) / 1000), 0));
}))"""
SCROLL = """new Promise(done => {
  const gaps = []; let last = performance.now(); let y = 0;
  const bottom = document.documentElement.scrollHeight - innerHeight;
  (function frame() {
    const now = performance.now(); gaps.push((now - last) / 1000); last = now;
    y += 120; scrollTo(0, y);
    if (y < bottom && gaps.length < 400) requestAnimationFrame(frame); else done(gaps.slice(2));
  })();
})"""


def write_large(path: Path) -> None:
    """10^5 steps of loss, norms on every 100th, readings of 200 layers at 40 places in time."""
    from defib.core.site import Signal, Site
    from defib.core.tally import Tally
    from defib.core.wiring import Layer, Wiring
    from defib.record.writer import Writer

    rng = np.random.default_rng(0)
    writer = Writer.create(path)
    sites = [Site(path=f"blocks.{n}.fc") for n in range(LAYERS)]
    weights = tuple(f"{site.path}.weight" for site in sites)
    layers = [
        Layer(path=s.path, kind="Linear", units=UNITS, parameters=(w,), optimizer=0)
        for s, w in zip(sites, weights, strict=True)
    ]
    wirings = [
        Wiring(site=s, activation="relu", operation="ReluBackward0", units=UNITS, order=n,
               inputs=(sites[n - 1],) if n else ())
        for n, s in enumerate(sites)
    ]  # fmt: skip
    writer.layers(tuple(layers))
    writer.wirings(tuple(wirings), ("NllLossBackward0",))
    writer.optimizer(
        0, {"kind": "Adam", "steps": STEPS, "groups": [{"lr": 1e-3}], "parameters": list(weights)}
    )
    places = {(site, Signal.ACTIVATION) for site in sites}
    for step in range(0, STEPS, 100):
        loss = 2.3 * np.exp(-np.arange(step, step + 100) / 2e4) * (1 + 0.02 * rng.normal(size=100))
        writer.stream(0, step, {"loss": loss.astype("f4"), "lr": np.full(100, 1e-3, "f4")})
        writer.norms(step, weights, rng.random((4, LAYERS), dtype="f4"))
        writer.flow(step, {place: float(v) for place, v in zip(places, rng.random(LAYERS), strict=True)})
        if step % 5000 == 0:
            assert writer.flush(60), writer.fault
    last = np.where(
        rng.random((LAYERS, UNITS)) < 0.05, rng.integers(1, STEPS // 2, (LAYERS, UNITS)), STEPS - 1
    )
    for site, alive in zip(sites, last, strict=True):
        facts = {"source": "bias", "steps": STEPS, "last_step": STEPS - 1, "period": 1, "batch": 64.0}
        writer.liveness(0, site.path, facts, np.stack([0 * alive, alive, alive + 1]).astype("i4"))
    for first in range(0, STEPS, STEPS // 40):
        z = np.maximum(rng.normal(size=(64, UNITS)), 0)
        for site, alive in zip(sites, last, strict=True):
            seen = z * (alive >= first)
            every = np.full(UNITS, 64.0)
            one = Tally(samples=64, count=every, positive=(seen > 0).sum(0) * 1.0, zero=(seen == 0).sum(0) * 1.0,
                        saturated=0 * every, flat=(seen <= 0).sum(0) * 1.0, nonfinite=0 * every,
                        total=seen.sum(0), squares=(seen**2).sum(0), low=seen.min(0), high=seen.max(0))  # fmt: skip
            writer.reading(site, Signal.ACTIVATION, first, first + STEPS // 40 - 1, one)
        assert writer.flush(60), writer.fault
    writer.close("finished")
    assert writer.fault is None, writer.fault


# ------------------------------------------------------------ the page of results


def render(found: dict[str, Any]) -> str:
    load = os.getloadavg()[0]
    lines = [
        "# The live page",
        "",
        f"Command: `.venv/bin/python bench/serve.py`, {time.strftime('%Y-%m-%d %H:%M')}, Python {platform.python_version()},",
        f"Linux, {os.cpu_count()} cores shared with other work (load {load:.1f} at the end).",
    ]
    if "viewers" in found:
        lines += _viewers_table(found["viewers"])
    if "latency" in found:
        ages = sorted(found["latency"])
        lines += [
            "", "## From the training to the page", "",
            "Age of the first step that a redraw brings, at the moment when Chromium has drawn it: the worst a step has",
            "to wait. The writer brings its data to the disk once a second, which is part of it.", "",
            f"{len(ages)} redraws: median **{np.median(ages):.2f} s**, 90 % within {np.quantile(ages, 0.9):.2f} s,"
            f" worst {ages[-1]:.2f} s (aim: under 2 s).",
        ]  # fmt: skip
    if "large" in found:
        lines += _large_table(found["large"])
    return "\n".join(lines) + "\n"


def _viewers_table(phases: dict[str, list[dict[str, float]]]) -> list[str]:
    rows = {
        "our code on a step that is not read, us": ("idle", 1e6),
        "our code on a step that is read (every 10th), us": ("read", 1e6),
        "our code, mean a step, us": ("mean", 1e6),
        "the record's thread, us a step": ("writer", 1e6),
        "the training thread, ms CPU a step": ("cpu", 1e3),
        "wall time a step, ms": ("wall", 1e3),
        "server and its reading process, share of a core": ("server", 1.0),
    }
    lines = [
        "", f"## {VIEWERS} viewers", "",
        f"One training (784-512x4-10, batch 128, Adam, one thread; read on every 10th step so that phases are alike, whatever that costs), {len(TURNS)} phases of {PHASE:g} s in the order {TURNS}",
        f"(A: served, nobody looks; B: {VIEWERS} viewers, each fetches every new portrait). Median of the phases (least, most).",
        "", f"| thread-CPU unless said | nobody | {VIEWERS} viewers | difference |", "|---|---|---|---|",
    ]  # fmt: skip
    for name, (key, scale) in rows.items():
        cells, middles = [], []
        for turn in "AB":
            values = [scale * each[key] for each in phases[turn]]
            middles.append(float(np.median(values)))
            cells.append(f"{middles[-1]:.3g} ({min(values):.3g}, {max(values):.3g})")
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {middles[1] - middles[0]:+.2g} |")
    fetched = [each["portraits"] for each in phases["B"]]
    size = [each["megabytes"] for each in phases["B"]]
    share = [100 * np.median([e["mean"] / e["cpu"] for e in phases[turn]]) for turn in "AB"]
    return [
        *lines, "",
        f"Our code's share of the training thread's CPU: {share[0]:.2f} % and {share[1]:.2f} %. The viewers fetched",
        f"{min(fetched):.0f} to {max(fetched):.0f} portraits a phase, {min(size):.1f} to {max(size):.1f} MB. Two cores serve the training, the server,",
        "the viewers and whatever else runs here, so wall time moves with all of them; the thread's CPU time does",
        "so only through shared caches.",
    ]  # fmt: skip


def _large_table(found: dict[str, Any]) -> list[str]:
    frames = np.array(found["frames"])
    return [
        "", f"## {found['steps']:,} steps, {found['layers']} layers", "",
        f"Record of {found['record']:.0f} MiB; the portrait that is sent has {found['bytes'] / 1e6:.2f} MB.", "",
        "| what | seconds | aim |", "|---|---|---|",
        f"| opened at once after the server's start (record read, judged, drawn) | {found['cold']:.2f} | |",
        f"| first paint of a page opened later, median of 5 (most) | {np.median(found['first']):.2f} ({max(found['first']):.2f}) | < 2 |",
        f"| redraw with a new portrait, median of 9 (most) | {np.median(found['redraw']):.3f} ({max(found['redraw']):.3f}) | < 0.3 |",
        f"| the same, with everything drawn anew, median of 9 (most) | {np.median(found['anew']):.3f} ({max(found['anew']):.3f}) | < 0.3 |",
        f"| scrolling, time of a frame: median, 95 %, worst of {len(frames)} | {np.median(frames):.3f}, {np.quantile(frames, 0.95):.3f}, {frames.max():.3f} | |",
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", choices=["viewers", "latency", "large"], help="one part; nothing is written"
    )
    parser.add_argument("--view", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.view:
        view(options.view, VIEWERS)
        return 0
    sys.path.insert(0, str(HERE))
    found: dict[str, Any] = {}
    parts = {"viewers": viewers, "latency": latency, "large": large}
    with tempfile.TemporaryDirectory() as folder:
        for name, part in parts.items():
            if options.only in {None, name}:
                found[name] = part(Path(folder))
                print(f"{name} measured", file=sys.stderr)
    print(render(found))
    if options.only is None:
        RESULT.write_text(render(found), encoding="utf-8")
    (Path(tempfile.gettempdir()) / "defib-bench-serve.json").write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
