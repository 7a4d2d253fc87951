"""Forks writers and kills them at random moments; prints what each had acknowledged, as JSON.

python kill_children.py FOLDER KILLS LONGEST SEED ACK
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
from record_samples import ACTIVATION, FC1, alive, tally_of

from defib.record.writer import Writer


def train(path: Path, pipe: int, ack: bool) -> None:
    """Steps for ever; tells the pipe each step that was said, and each that was acknowledged."""
    writer = Writer.create(path)
    tally = tally_of(np.ones((4, 50)))
    for step in range(1_000_000):
        writer.stream(0, step, {"loss": np.array([step], "f4")})
        if step % 5 == 0:
            writer.reading(FC1, ACTIVATION, step, step, tally)
            writer.liveness(0, "fc1", *alive(step + 1, 50))
            writer.flow(step, {(FC1, ACTIVATION): float(step)})
        if ack and step % 11 == 0:
            writer.event(step, "mark", {})
        acked = ack and step % 7 == 0 and writer.flush()
        os.write(pipe, f"{'a' if acked else 's'} {step} {time.time()}\n".encode())
        time.sleep(0.001)


def main() -> None:
    folder, kills, longest, seed, ack = Path(sys.argv[1]), *map(float, sys.argv[2:])
    rng = random.Random(seed)
    results = []
    for number in range(int(kills)):
        path = folder / f"{number}.rec"
        reader, pipe = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            train(path, pipe, bool(ack))
        os.close(pipe)
        lines = [os.read(reader, 1)]  # it has begun
        time.sleep(rng.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        at = time.time()
        os.waitpid(child, 0)
        while chunk := os.read(reader, 65536):
            lines.append(chunk)
        os.close(reader)
        said = [line.split() for line in b"".join(lines).decode().splitlines() if line.count(" ") == 2]
        results.append(
            {
                "path": str(path),
                "acked": max((int(s) for kind, s, _ in said if kind == "a"), default=-1),
                "old": max((int(s) for _, s, when in said if float(when) < at - 1.6), default=-1),
                "said": max((int(s) for _, s, _ in said), default=-1),
            }
        )
    print(json.dumps(results))


if __name__ == "__main__":
    main()
