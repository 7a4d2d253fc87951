"""Ctrl-C: one line that says what is kept, exit code 130, and nobody goes on working."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
LONG = """
import os, sys, time
import torch
layer = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for step in range(100_000):
    optimizer.zero_grad()
    layer(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    if step == 10:
        with open(sys.argv[1], "w") as file:
            file.write(str(os.getpid()))
    time.sleep(0.01)
"""


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits for something that is about to happen."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def is_there(process: int, *, group: bool = False) -> bool:
    try:
        (os.killpg if group else os.kill)(process, 0)
    except ProcessLookupError:
        return False
    return True


def interrupted(words: list[str], started: Callable[[], bool], folder: Path) -> tuple[int, str, int]:
    """Exit code and stderr of a command whose terminal was sent Ctrl-C; and its process group."""
    process = subprocess.Popen(
        [sys.executable, "-m", "defib", *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(started)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everybody in the foreground
    _, said = process.communicate(timeout=60)
    return process.returncode, said, process.pid


@pytest.mark.parametrize("later", [0.0, 3.0], ids=["while-workers-start", "while-they-work"])
def test_a_lab_that_is_stopped_says_so_in_one_line_and_leaves_no_worker(later: float, tmp_path: Path) -> None:
    results = tmp_path / "results"

    def started() -> bool:
        if results.is_dir():
            time.sleep(0.3 + later)
        return results.is_dir()

    chosen = ["born-dead", "changing-tasks", "--scale", "paper", "--jobs", "2"]
    words = ["lab", "run", *chosen, "-o", str(results)]
    code, said, group = interrupted(words, started, tmp_path)
    assert said == (
        "defib: stopped by Ctrl-C; what was measured is kept: the same command goes on where it was\n"
    )
    assert code == 130
    until(lambda: not is_there(group, group=True))


def test_a_trial_that_is_stopped_ends_the_run_that_it_waits_for(tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text(LONG)
    told = tmp_path / "pid"
    words = ["trial", "--seeds", "1", "-o", "trial", "long.py", str(told)]
    code, said, _ = interrupted(words, lambda: told.exists() and told.read_text() != "", tmp_path)
    assert (code, said.splitlines()[-1]) == (
        130,
        "defib: stopped by Ctrl-C; runs that are complete are kept: the same command goes on where it was",
    )
    assert "Traceback" not in said
    until(lambda: not is_there(int(told.read_text())), seconds=20)


def test_two_commands_in_one_process_find_their_subcommands() -> None:
    """A folder and a function of one name had taken each other's place."""
    code = "from defib.cli import main; print(main(['rules', '--json']), main(['explain', 'usage']))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.endswith("0 0\n"), done.stderr
