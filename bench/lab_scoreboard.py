"""The lab's proving ground: 8 draws of every pathology and their healthy twins, scored.

Command: .venv/bin/python bench/lab_scoreboard.py [--seed 0] [--seeds 8] [--jobs 2] [--keep DIR]

Writes bench/results/lab_scoreboard.json and .md, and the copy that rules' pages show
(src/defib/report/proving_ground.json). The first look, taken before any rule had seen the proving
ground, stays in lab_scoreboard_first_look.json and .md, and is set beside. Finished pairs
are kept in --keep, so that a run that was stopped goes on where it was; a change of a rule
makes all of them anew.
"""

import argparse
import json
import shutil
from pathlib import Path

from defib.lab.boardtext import beside, markdown
from defib.lab.proving import present
from defib.report.proven import NAME

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
FIRST = RESULTS / "lab_scoreboard_first_look.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="number of the first draw")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=ROOT / "defib-lab" / "scoreboard")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    found = present(
        (), draws=options.seeds, first=options.seed, folder=options.keep, jobs=options.jobs, told=print
    )
    shutil.copy(options.keep / "lab_scoreboard.json", RESULTS / "lab_scoreboard.json")
    text = f"{markdown(found)}\n{beside(found, json.loads(FIRST.read_text()))}"
    (RESULTS / "lab_scoreboard.md").write_text(text, encoding="utf-8")
    shutil.copy(options.keep / "lab_scoreboard.json", ROOT / "src/defib/report" / NAME)
    print(text)


if __name__ == "__main__":
    main()
