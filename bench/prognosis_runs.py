"""Do dead units come back as foretold? Real training on digits, every death in the first layer followed.

    python bench/prognosis_runs.py             about ten minutes; writes results/prognosis_runs.md
    python bench/prognosis_runs.py --seeds 1   quick, printed and not written

At each death of a first-layer unit, planted by hand or natural, defib.prognose(model, optimizer, data)
is asked, and training goes on: the answer is held against the first forward pass in which the unit fires
for any sample of the data. The record alone (defib.watch) is asked every 40 steps, on the samples that it
kept. Four units are pushed below zero on two steps, and one step is taken at 30 times the learning rate,
which kills others; units that are dead from the start are asked as well.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "prognosis"))

from real_training import Optimizers, Plan, Verdict, exact_verdicts, record_verdicts  # noqa: E402

from defib.core.prognosis import Outlook  # noqa: E402

optim = torch.optim
SETTINGS: dict[str, tuple[Optimizers, int]] = {
    "SGD, lr 0.1": (lambda p: optim.SGD(p, lr=0.1), 400),
    "momentum 0.9": (lambda p: optim.SGD(p, lr=0.05, momentum=0.9), 400),
    "momentum 0.99": (lambda p: optim.SGD(p, lr=0.01, momentum=0.99), 400),
    "Nesterov 0.9": (lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True), 400),
    "momentum 0.9, decay 0.01": (lambda p: optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-2), 400),
    "momentum 0.99, decay 0.005 (underdamped)": (
        lambda p: optim.SGD(p, lr=0.02, momentum=0.99, weight_decay=5e-3),
        800,
    ),
    "Nesterov 0.9, dampened decay 0.1": (
        lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
        400,
    ),
    "Adam": (lambda p: optim.Adam(p, lr=3e-3), 400),
    "AMSGrad": (lambda p: optim.Adam(p, lr=3e-3, amsgrad=True), 400),
    "AdamW, decay 0.1": (lambda p: optim.AdamW(p, lr=3e-3, weight_decay=0.1), 400),
    "RMSprop": (lambda p: optim.RMSprop(p, lr=1e-3), 400),
    "RMSprop, momentum 0.9": (lambda p: optim.RMSprop(p, lr=1e-3, momentum=0.9), 400),
    "Adam, L2 0.01": (lambda p: optim.Adam(p, lr=3e-3, weight_decay=1e-2), 1500),
    "Adam, L2 0.01, lr 0.001": (lambda p: optim.Adam(p, lr=1e-3, weight_decay=1e-2), 6000),
    "RMSprop, L2 0.01": (lambda p: optim.RMSprop(p, lr=1e-3, weight_decay=1e-2), 6000),
}


@dataclass
class Row:
    """One optimiser: the answers of the exact form and of the record."""

    name: str
    steps: int
    exact: list[Verdict] = field(default_factory=list)
    record: list[Verdict] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    seconds: float = 0.0


def measure(name: str, seeds: int, folder: Path) -> Row:
    """All trainings with one optimiser."""
    make, steps = SETTINGS[name]
    row, start = Row(name, steps), time.monotonic()
    for seed in range(seeds):
        plan = Plan(make=make, steps=steps, seed=seed, samples=300, centred=seed % 2 == 1)
        row.exact += exact_verdicts(plan)
        wide = replace(plan, samples=1200)  # four times as many as the exact form has: some are not kept
        verdicts, samples = record_verdicts(wide, folder / f"{len(list(folder.iterdir()))}.rec", steps // 10)
        row.record += verdicts
        row.samples.append(samples)
    row.seconds = time.monotonic() - start
    return row


def told(verdicts: Sequence[Verdict], outlook: Outlook) -> int:
    return sum(v.outlook is outlook for v in verdicts)


def back(verdicts: Sequence[Verdict]) -> int:
    return sum(v.seen is not None for v in verdicts)


def to_the_step(verdicts: Sequence[Verdict]) -> int:
    return sum(v.seen is not None and v.seen == v.said for v in verdicts)


def page(rows: Sequence[Row], seeds: int) -> str:
    """The tables."""
    every = [v for row in rows for v in row.exact]
    lines = [
        "# Dead units in real training: foretold and what happened",
        "",
        f"`python bench/prognosis_runs.py --seeds {seeds}`, torch {torch.__version__}, one thread. "
        "64-24-16-10 MLPs on the digits of scikit-learn, batches of 30; float32.",
        "",
        "## The exact form, asked at each death in the first layer",
        "",
        "A death counts when it happens (or at the first question after the jolt), the first four of each"
        " unit. Right means: it said a step within the training and the unit fired on that very step, or it"
        " said none (never, not within the training) and the unit did not fire.",
        "",
        "| optimiser | steps | deaths | planted | came back | to the step | said never | right |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        v = row.exact
        lines.append(
            f"| {row.name} | {row.steps} | {len(v)} | {sum(x.planted for x in v)} | {back(v)} "
            f"| {to_the_step(v)} | {told(v, Outlook.NEVER)} | {sum(x.right for x in v)} |"
        )
    lines += [
        f"| **all** | | **{len(every)}** | {sum(v.planted for v in every)} | {back(every)} "
        f"| {to_the_step(every)} | {told(every, Outlook.NEVER)} | **{sum(v.right for v in every)}** |",
        "",
        "## The record alone, on the samples it kept",
        "",
        "The same networks on 1,200 digits, asked ten times a training. A sample that was not kept can only"
        " fire a unit sooner than foretold.",
        "",
        "| optimiser | answers | samples kept of 1,200 | right | sooner than said | otherwise wrong |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(record_line(row.name, row.record, f"{min(row.samples)} to {max(row.samples)}"))
    lines.append(record_line("**all**", [v for row in rows for v in row.record], ""))
    wrong = [(row.name, v) for row in rows for v in row.exact if not v.right]
    wrong += [(f"{row.name}, record", v) for row in rows for v in row.record if not v.right and not early(v)]
    if wrong:
        lines += ["", "## Wrong answers", ""]
        lines += [
            f"- {name}: unit {v.unit} at {v.at}: said {v.outlook} {v.said}, seen {v.seen}"
            for name, v in wrong
        ]
    return "\n".join(lines) + "\n"


def early(v: Verdict) -> bool:
    """It came back, and sooner than said."""
    return not v.right and v.seen is not None and (v.said is None or v.seen < v.said)


def record_line(name: str, v: Sequence[Verdict], samples: str) -> str:
    right = sum(x.right for x in v)
    sooner = sum(early(x) for x in v)
    return f"| {name} | {len(v)} | {samples} | {right} | {sooner} | {len(v) - right - sooner} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in SETTINGS:
            rows.append(measure(name, options.seeds, Path(folder)))
            v = rows[-1].exact
            print(
                f"{name}: {len(v)} deaths, {sum(x.right for x in v)} right, {rows[-1].seconds:.0f} s",
                flush=True,
            )
    text = page(rows, options.seeds)
    print(text)
    if options.seeds >= 6:
        (HERE / "results" / "prognosis_runs.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
