"""Kills a watched training 50 times at random moments and writes down what was left.

    .venv/bin/python bench/kills.py [KILLS]

Writes bench/results/kills.md. Takes about eight seconds a kill, most of them to import torch.
"""

import random
import statistics
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "launch"))

from killing import Killed, kill_once  # noqa: E402

LONGEST = 4.0
"""Seconds of training within which the kill falls."""


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    chance = random.Random(2026)
    found: list[Killed] = []
    for number in range(kills):
        with tempfile.TemporaryDirectory() as folder:
            found.append(kill_once(Path(folder), chance.uniform(0.0, LONGEST)))
        print(number, found[-1], flush=True)
    target = HERE / "results" / "kills.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text(page(found))
    print(target.read_text())


def page(found: list[Killed]) -> str:
    lost = sorted(k.lost for k in found)
    rows = [
        ("kills", str(len(found))),
        ("records that can be read", str(sum(not k.error for k in found))),
        ("of these with status interrupted", str(sum(k.status == "interrupted" for k in found))),
        ("steps logged by the scripts themselves", str(sum(k.done for k in found))),
        ("steps in the records", str(sum(k.recorded for k in found))),
        ("records one step ahead of the log", str(sum(k.recorded > k.done for k in found))),
        ("lost, median", f"{statistics.median(lost):.2f} s"),
        ("lost, worst", f"{lost[-1]:.2f} s"),
        ("kills that lost more than 1 s", str(sum(seconds > 1.0 for seconds in lost))),
        ("records without a single step", str(sum(k.recorded == 0 for k in found))),
    ]  # fmt: skip
    table = "\n".join(f"| {what} | {value} |" for what, value in rows)
    errors = "".join(f"\n- {k.error}" for k in found if k.error)
    return (
        "# Kills\n\n`bench/kills.py`: a training under `defib run` is ended by SIGKILL at a random moment\n"
        f"in its first {LONGEST:g} s; its record is compared with the log that the script writes with\n"
        "`os.write` after every step. Lost is the time from the first missing step to the last logged.\n\n"
        f"| | |\n|---|---|\n{table}\n{errors}"
    )


if __name__ == "__main__":
    main()
