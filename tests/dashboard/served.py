"""Small real records, a real server and a raw socket for the tests of the live page."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.core.wiring import Layer, Wiring
from defib.record.writer import Writer

HOSTILE = (
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "<!--",
    "]]>",
    "'\"`",
    "&lt;b&gt;",
    "${document.title='owned'}",
    "{{7*7}}",
    "javascript:document.title='owned'",
    "data:text/html,<script>1</script>",
    "__proto__",
    "constructor",
    "hasOwnProperty",
    "null",
    "undefined",
    "NaN",
    " ",
    "a\0b",
    "line\nbreak\r\ttab",
    "\x1b[31mred\x1b[0m",
    "\u202egnp.exe\u202c",
    "\u2028\u2029\ufeff\u200b",
    "\ud800lone\udfff",
    "x" * 10_000,
    "../../etc/passwd",
    "😀" * 50 + "\u0301" * 50,
)
"""Layer names that somebody may give on purpose."""


def tally(units: int, dead: int, seed: int = 0, n: int = 64) -> Tally:
    """What a ReLU layer gives for a batch, its first units silent."""
    z = np.maximum(np.random.default_rng(seed).normal(size=(n, units)), 0)
    z[:, :dead] = 0
    every = np.full(units, float(n))
    return Tally(
        samples=n,
        count=every,
        positive=(z > 0).sum(0) * 1.0,
        zero=(z == 0).sum(0) * 1.0,
        saturated=0 * every,
        flat=(z <= 0).sum(0) * 1.0,
        nonfinite=0 * every,
        total=z.sum(0),
        squares=(z**2).sum(0),
        low=z.min(0),
        high=z.max(0),
    )


class Recording:
    """A run that goes on as long as it is told to; its units die on request."""

    def __init__(self, path: Path, names: tuple[str, ...] = ("fc1", "fc2"), *, force: bool = False) -> None:
        self.writer = Writer.create(path, force=force)
        self.path, self.names, self.steps, self.units = path, names, 0, 8
        sites = [Site(path=name) for name in names]
        weights = tuple(f"w{i}" for i in range(len(names)))
        self.writer.facts({"target": "train.py"})
        self.writer.layers(
            tuple(
                Layer(path=s.path, kind="Linear", units=8, parameters=(w,), optimizer=0)
                for s, w in zip(sites, weights, strict=True)
            )
        )
        wirings = tuple(
            Wiring(
                site=s,
                activation="relu",
                operation="ReluBackward0",
                units=8,
                order=i,
                inputs=(sites[i - 1],) if i else (),
            )
            for i, s in enumerate(sites)
        )
        self.writer.wirings(wirings, ("NllLossBackward0", "LogSoftmaxBackward0"))
        self.writer.optimizer(0, {"kind": "SGD", "parameters": list(weights), "groups": [{"lr": 0.1}]})

    def go_on(self, steps: int, dead: int = 0, level: float = 1.0) -> None:
        """Takes steps, and has them on the disk."""
        first, self.steps = self.steps, self.steps + steps
        loss = level * (1 + np.exp(-np.arange(first, self.steps) / 50)).astype("f4")
        self.writer.stream(0, first, {"loss": loss, "lr": np.full(steps, 0.1, "f4")})
        self.writer.optimizer(0, {"steps": self.steps})
        last = self.steps - 1
        facts = {"source": "bias", "steps": self.steps, "last_step": last, "period": 1, "batch": 64.0}
        alive = np.full(self.units, last)
        alive[:dead] = first
        state = np.stack([np.zeros(self.units), alive, alive + 1]).astype("i4")
        for name in self.names:
            self.writer.liveness(0, name, facts, state)
            self.writer.reading(Site(path=name), Signal.ACTIVATION, first, last, tally(self.units, dead))
        assert self.writer.flush(20)
        assert self.writer.fault is None

    def close(self) -> None:
        """Ends the run."""
        self.writer.close("finished")
        assert self.writer.fault is None


def recorded(path: Path, names: tuple[str, ...] = ("fc1", "fc2"), dead: int = 0) -> Path:
    """The record of a run that has ended."""
    run = Recording(path, names)
    run.go_on(100)
    run.go_on(100, dead)
    run.close()
    return path


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running ``defib serve``."""

    process: subprocess.Popen[str]
    port: int
    token: str
    prefix: str
    cookie: str
    home: str

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def path(self, rest: str) -> str:
        """A path below the prefix."""
        return f"/{self.prefix}/{rest}"

    def get(self, rest: str, method: str = "GET", more: str = "", wait: float = 10.0) -> "Said":
        """A well-behaved request."""
        head = (
            f"{method} {self.path(rest)} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nCookie: {self.cookie}\r\n"
        )
        return self.send((head + more + "\r\n").encode(), wait)

    def send(self, data: bytes, wait: float = 10.0) -> "Said":
        """Bytes as they are, and all that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as line:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                line.sendall(data)
            return Said(all_of(line))


def all_of(line: socket.socket) -> bytes:
    """What comes until the other side closes, or nothing comes any more."""
    got = b""
    with contextlib.suppress(ConnectionResetError, TimeoutError):
        while piece := line.recv(65536):
            got += piece
    return got


class Said:
    """An answer."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1]) if raw else 0
        self.headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}


def start(root: Path, *options: str, **environment: str) -> Served:
    """Starts the command and reads the address that it prints."""
    words = [sys.executable, "-m", "defib", "serve", str(root), *options]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    assert process.stdout is not None
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            found = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", line)
            if found:
                break
        else:
            raise AssertionError(f"no address: {process.stderr.read() if process.stderr else ''}")
    finally:
        watchdog.cancel()
    port, token = int(found[1]), found[2]
    entry = f"GET /?token={token} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line_in:
        line_in.sendall(entry)
        text = all_of(line_in).decode()
    cookie = re.search(r"set-cookie: ([^;]+)", text)
    there = re.search(r"url=/([0-9a-f]+)(/[^\"]*)", text)
    assert cookie is not None
    assert there is not None
    return Served(
        process=process, port=port, token=token, prefix=there[1], cookie=cookie[1], home=there[2].lstrip("/")
    )


def stop(server: Served, how: int = signal.SIGINT) -> tuple[int, str]:
    """Ends it; its exit code and what it said on stderr."""
    if server.process.poll() is None:
        server.process.send_signal(how)
    _, complaints = server.process.communicate(timeout=20)
    return server.process.returncode, complaints


@contextlib.contextmanager
def serving(root: Path, *options: str, **environment: str) -> Iterator[Served]:
    """A server that must end well."""
    server = start(root, *options, **environment)
    try:
        yield server
    finally:
        code, complaints = stop(server)
    assert code == 0, complaints
    assert "Traceback" not in complaints, complaints
