"""Runs one script under plain python and under ``defib run``, and lays the two side by side."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

OURS = ("DEFIB_", "PYTHONWARNINGS", "PYTHONPATH", "PYTHONSAFEPATH", "RANK", "WORLD_SIZE")
_VARIES = re.compile(r"0x[0-9a-f]{6,}|started( daemon)? \d{9,}")

TRAIN = """
import os, sys, torch
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def train(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(16, 4)).pow(2).mean().backward()
        optimizer.step()
"""
"""Head of a script that trains: ``train(steps)``, ``model``."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """What is run: a text, or what ``target`` names among ``files``."""

    text: str = ""
    target: tuple[str, ...] = ("script.py",)
    arguments: tuple[str, ...] = ()
    interpreter: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    stdin: str = ""
    files: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        for name, text in {"script.py": self.text, **self.files}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How it went; addresses and thread numbers, which differ from start to start, taken out."""

    code: int
    out: str
    err: str


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The test's own environment without anything that would change the outcome."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **(extra or {})}


def run(command: list[str], folder: Path, extra: dict[str, str] | None = None, stdin: str = "") -> Ran:
    """Runs a command to its end."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(extra),
        input=stdin.encode(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    return Ran(code=done.returncode, out=_steady(done.stdout), err=_steady(done.stderr))


def defib(*words: str, folder: Path, extra: dict[str, str] | None = None) -> Ran:
    """``defib WORDS`` in a folder."""
    return run([sys.executable, "-m", "defib", *words], folder, extra)


def both(script: Script, folder: Path, *options: str) -> tuple[Ran, Ran]:
    """Under python, and under ``defib run`` with these options, from the same folder."""
    script.write(folder)
    python = [sys.executable, *script.interpreter]
    words = [*script.target, *script.arguments]
    watch = ["-m", "defib", "run", "-o", str(folder.parent / "watched.rec"), *options]
    bare = run([*python, *words], folder, script.environment, script.stdin)
    watched = run([*python, *watch, *words], folder, script.environment, script.stdin)
    return bare, watched


def until_line(process: "subprocess.Popen[bytes]", word: bytes) -> None:
    """Waits until a line of the process' stdout holds a word."""
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"the process ended before it said {word!r}")


def kill(process: "subprocess.Popen[bytes]") -> None:
    """``kill -9``, and waits for the end."""
    process.send_signal(signal.SIGKILL)
    process.wait(30)


def _steady(data: bytes) -> str:
    return _VARIES.sub("*", data.decode("utf-8", "surrogateescape"))
