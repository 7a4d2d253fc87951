"""Measures the CPU time of ``defib --help``.

    .venv/bin/python bench/help_time.py

Writes bench/results/help_time.md.
"""

import resource
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TIMES = 21
AIM = 0.15


def cpu_time(words: list[str]) -> float:
    """CPU seconds, user and system, of one process with its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    commands = {
        "`python -c pass`": ["-c", "pass"],
        "`defib --help`": ["-m", "defib", "--help"],
        "`defib run --help`": ["-m", "defib", "run", "--help"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(TIMES):
        for name, words in commands.items():
            taken[name].append(cpu_time(words))
    rows = "\n".join(
        f"| {name} | {statistics.median(values):.3f} s | {min(values):.3f} s | {max(values):.3f} s |"
        for name, values in taken.items()
    )
    target = HERE / "results" / "help_time.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text(
        "# CPU time of `defib --help`\n\n"
        f"`bench/help_time.py`: user and system time together, {TIMES} processes each, taken in turns.\n"
        f"The aim is {AIM} s.\n\n| command | median | least | most |\n|---|---|---|---|\n{rows}\n"
    )
    print(target.read_text())


if __name__ == "__main__":
    main()
