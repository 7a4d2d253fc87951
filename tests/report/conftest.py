"""Real runs of one small script: dying, treated, sound, ended early."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import dying_script as script

from defib.record.writer import Writer

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def dying(tmp_path_factory) -> Path:
    return script.run(tmp_path_factory.mktemp("dying"), "dying.rec")


@pytest.fixture(scope="session")
def treated(tmp_path_factory) -> Path:
    """The same, treated by ``--treat auto``.

    Read on every step: without ``--every`` the clock spaces the readings, what is seen by step 50 depends
    on how loaded the machine is, and with it which of the two layers the finding names.
    """
    words = ("--treat", "auto", "--every", "1")
    return script.run(tmp_path_factory.mktemp("treated"), "treated.rec", *words)


@pytest.fixture(scope="session")
def sound(tmp_path_factory) -> Path:
    return script.run(tmp_path_factory.mktemp("sound"), "sound.rec", kill=0.0, lr=0.05)


@pytest.fixture(scope="session")
def short(tmp_path_factory) -> Path:
    return script.run(tmp_path_factory.mktemp("short"), "short.rec", "--stop-at", "10")


@pytest.fixture(scope="session")
def empty(tmp_path_factory) -> Path:
    """A record of a script that never trained."""
    path = tmp_path_factory.mktemp("empty") / "empty.rec"
    Writer.create(path).close("finished")
    return path


@pytest.fixture
def defib(tmp_path) -> Command:
    """Runs ``python -m defib`` in an empty folder."""

    def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        bare = {k: v for k, v in os.environ.items() if not k.startswith("DEFIB_") and k != "RANK"}
        return subprocess.run(
            [sys.executable, "-m", "defib", *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            timeout=60,
            env={**bare, **environ},
        )

    return run
