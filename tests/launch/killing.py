"""Kills a watched training with ``kill -9`` and compares the record with the script's own log."""

import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from launching import TRAIN, environment, kill, until_line

import defib

LOG = struct.Struct("<dq")

TRAINING = (
    TRAIN
    + """
import struct, time
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
train(1)
os.write(log, struct.pack("<dq", time.monotonic(), 1))
print("on", flush=True)
for done in range(2, 10**9):
    train(1)
    os.write(log, struct.pack("<dq", time.monotonic(), done))
"""
)


@dataclass(frozen=True, kw_only=True)
class Killed:
    """What one kill left.

    Attributes:
        after: Seconds between the first step and the kill.
        done: Steps that the script had logged.
        recorded: Steps in the record.
        lost: Seconds between the first step that is not in the record and the last logged one.
        status: How the record says that the run ended.
        error: Why the record could not be read; "" if it could.
    """

    after: float
    done: int
    recorded: int
    lost: float
    status: str
    error: str = ""


def kill_once(folder: Path, after: float) -> Killed:
    """Trains under watch in a fresh process, and kills it ``after`` seconds into training."""
    (folder / "train.py").write_text(TRAINING)
    log, record = folder / "steps.log", folder / "run.rec"
    command = [sys.executable, "-m", "defib", "run", "-q", "-o", str(record), "train.py", str(log)]
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE) as process:
        until_line(process, b"on")
        time.sleep(after)
        kill(process)
    data = log.read_bytes()
    times = [at for at, _ in LOG.iter_unpack(data[: len(data) // LOG.size * LOG.size])]
    try:
        view = defib.open_run(record).view
    except Exception as error:
        return Killed(
            after=after,
            done=len(times),
            recorded=0,
            lost=after,
            status="",
            error=f"{type(error).__name__}: {error}",
        )
    recorded = sum(optimizer.steps for optimizer in view.optimizers)
    lost = times[-1] - times[recorded] if recorded < len(times) else 0.0
    return Killed(
        after=after, done=len(times), recorded=recorded, lost=lost, status=str(view.facts.get("status"))
    )
