"""README.md shows what `make demo` prints: what a newcomer sees first is what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BY_THE_CLOCK = (
    (r"^prognosis .*\n", ""),  # which steps' states are kept follows from which steps are read
    (r"^(overhead|rests on|explains) .*\n", ""),
    (r"readings on \d+ of them, [\d,]+ samples", "readings"),
    (r"\d+% of the features", "some of the features"),
    (r"and \d+ more numbers", "and more numbers"),  # two of them where the killing step was read
)
"""What the speed of the machine decides: a governor reads as many steps as the budget has room for."""


def lasting(transcript: str) -> str:
    """A transcript without what another machine prints otherwise, each labelled text on one line."""
    text = re.sub(r"\n {10,}(?=\S)|\n {2}(?=\S)", " ", transcript)
    for pattern, instead in BY_THE_CLOCK:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return re.sub(" +", " ", text)


def transcript_in_the_readme() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"transcript of `make demo`: begin -->\n```console\n(.*?)```\n<!--", text, re.DOTALL)
    assert found
    return found[1]


def test_what_the_clock_decides_is_left_out_and_nothing_else() -> None:
    told = "error  hidden\n          61 of 64\nprognosis 2 units come back\n          at step 9\ncause  x\n"
    assert lasting(told) == "error hidden 61 of 64\ncause x\n"
    kept = lasting(transcript_in_the_readme())
    for needed in ("61 of 64 units", "first death 114 step", "280 steps", "defib: healthy", "epoch 4: loss"):
        assert needed in kept


@pytest.mark.slow
def test_the_readme_shows_what_the_demo_prints(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    command = [sys.executable, str(ROOT / "tools/demo.py")]
    done = subprocess.run(
        command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode == 0, done.stdout
    assert lasting(done.stdout) == lasting(transcript_in_the_readme()), "`python tools/demo.py --readme`"
