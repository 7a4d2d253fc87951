"""Do verdicts stay what they are when seed, width, batch size and number of steps change?

Command: .venv/bin/python bench/robustness.py [--out bench/results/robustness.md] [--keep DIR]

Programs of bench/programs, sick and healthy, are changed in their text, one thing at a time, and run
under watch with default settings. A variation counts only if its own final metric says that it is
still sick (or still healthy), by the limits that came with the program; the others are listed as
undecided. Right means: for a sick one the first finding of warning or worse carries the expected or an
accepted word; for a healthy one there is none.
"""

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from scoreboard import interval

from defib.core.finding import Severity
from defib.diagnosis.engine import diagnose
from defib.record.reader import read

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
SICK = (
    "ht_broadcast", "ht_tanh_targets", "ht_log_softmax_dim", "ht_no_zero_grad", "ht_divided_twice",
    "ht_lr_thirty_times_low", "ht_zeros_everywhere", "ht_momentum_oscillates", "ht_price_targets",
)  # fmt: skip
SOUND = (
    "healthy_ht_noise_floor", "healthy_ht_converged_full_batch", "healthy_ht_negative_loss",
    "healthy_ht_warm_restarts", "ht_broadcast", "ht_tanh_targets", "ht_lr_thirty_times_low",
    "ht_divided_twice", "ht_price_targets",
)  # fmt: skip
"""Run with --fixed: another seed of a healthy program, or the twin of a sick one that was put right."""

Change = Callable[[str], str]


def seed(text: str) -> str:
    return re.sub(r"torch\.manual_seed\((.*)\)", r"torch.manual_seed((\1) + 17)", text)


def batch(text: str) -> str:
    """Batches of twice the size, however the program cuts them."""
    text = re.sub(r"batch_size=(\d+), shuffle", lambda m: f"batch_size={2 * int(m[1])}, shuffle", text)
    text = re.sub(r"\.split\((\d+)\)", lambda m: f".split({2 * int(m[1])})", text)
    text = re.sub(r"range\(0, (\d+), (\d+)\)", lambda m: f"range(0, {m[1]}, {2 * int(m[2])})", text)
    text = re.sub(r"i : i \+ (\d+)", lambda m: f"i : i + {2 * int(m[1])}", text)
    return re.sub(
        r"randint\(0, (\w+), \((\d+),\)\)", lambda m: f"randint(0, {m[1]}, ({2 * int(m[2])},))", text
    )


def steps(text: str) -> str:
    """One and a half times as many."""
    return re.sub(
        r"for (_?step|_?epoch) in range\((\d+)\)",
        lambda m: f"for {m[1]} in range({int(m[2]) * 3 // 2})",
        text,
    )


def width(text: str) -> str:
    """Hidden layers of one and a half times the width: sizes that go out of one layer and into another."""
    pairs = [m.split(", ")[:2] for m in re.findall(r"nn\.Linear\(([^()]*)\)", text)]
    hidden = {b for _, b in pairs if b.isdigit()} & {a for a, _ in pairs if a.isdigit()}
    wider = {h: str(int(h) * 3 // 2) for h in hidden}

    def widen(found: re.Match[str]) -> str:
        return "nn.Linear(" + ", ".join(wider.get(a, a) for a in found[1].split(", ")) + ")"

    return re.sub(r"nn\.Linear\(([^()]*)\)", widen, text)


CHANGES: tuple[Change, ...] = (seed, batch, steps, width)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One variation."""

    program: str
    change: str
    sick: bool
    metric: float
    state: str
    first: str


def vary(name: str, change: Change, sick: bool, folder: Path) -> Outcome | None:
    """Runs and judges one variation; None if the change leaves the program as it is."""
    source = PROGRAMS / f"case_{name}.py"
    facts = json.loads(source.with_suffix(".json").read_text())
    text = source.read_text()
    changed = change(text)
    if changed == text:
        return None
    script = folder / f"{name}_{change.__name__}{'' if sick else '_fixed'}.py"
    script.write_text(changed)
    record = script.with_suffix(".rec")
    command = [sys.executable, "-m", "defib", "run", "-q", "-o", str(record), str(script)]
    done = subprocess.run(
        [*command, *([] if sick else ["--fixed"])], capture_output=True, text=True, check=False
    )
    last = (done.stdout.strip().splitlines() or [""])[-1]
    metric = float(last.split()[-1]) if last.startswith("final") else math.nan
    if done.returncode not in {0, 1} or not record.exists() or (not sick and math.isnan(metric)):
        return Outcome(
            program=name, change=change.__name__, sick=sick, metric=metric, state="did not run", first=""
        )
    alarms = [f for f in diagnose(read(record)).findings if f.severity is not Severity.INFO]
    alarms = [f for f in alarms if f.rule != "not-observed"]
    first = f"{alarms[0].rule} ({alarms[0].cause})" if alarms else "none"
    confirmed = (
        not metric > facts["failing_if_metric_at_most_or_nan"]
        if sick
        else metric >= facts["learned_if_metric_at_least"]
    )
    words = {facts["expected_fault"], *facts["also_accept"]}
    if not confirmed:
        state = "undecided"
    elif sick:
        state = "right" if alarms and alarms[0].fault in words else "wrong word" if alarms else "missed"
    else:
        state = "false alarm" if alarms else "right"
    return Outcome(program=name, change=change.__name__, sick=sick, metric=metric, state=state, first=first)


def page(outcomes: list[Outcome], seconds: float) -> str:
    """The page as Markdown."""
    sick = [o for o in outcomes if o.sick and o.state not in {"undecided", "did not run"}]
    sound = [o for o in outcomes if not o.sick and o.state not in {"undecided", "did not run"}]
    left = [o for o in outcomes if o.state in {"undecided", "did not run"}]
    alarmed = sum(o.state != "missed" for o in sick)
    rows = [
        f"| {o.program}{'' if o.sick else ' (fixed)'} | {o.change} | {o.metric:.3g} | {o.first} | {o.state} |"
        for o in outcomes
    ]
    return "\n".join([
        "# Robustness: one thing changed at a time",
        "",
        f"Made by `.venv/bin/python bench/robustness.py {' '.join(sys.argv[1:])}`, {date.today()}, "
        f"{len(outcomes)} variations in {seconds:.0f} s. The programs are those of bench/programs, which the "
        "rules have been changed in view of: this measures stability, not accuracy on new programs.",
        "",
        f"- sick, alarm: {interval(alarmed, len(sick))}",
        f"- sick, first alarm right: {interval(sum(o.state == 'right' for o in sick), len(sick))}",
        f"- healthy, false alarm: {interval(sum(o.state == 'false alarm' for o in sound), len(sound))}",
        f"- not counted (metric between the limits, or the change does not run): {len(left)}",
        "",
        "Seed: + 17. Batch: twice the size. Steps: one and a half times as many. Width: hidden layers one "
        "and a half times as wide.",
        "",
        "| program | change | metric | first alarm | outcome |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "robustness.md")
    parser.add_argument("--keep", type=Path, default=None, help="keep scripts and records in this folder")
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [(n, c, True) for n in SICK for c in CHANGES] + [(n, c, False) for n in SOUND for c in CHANGES]
        found = [vary(name, change, sick, folder) for name, change, sick in jobs]
    text = page([o for o in found if o is not None], time.monotonic() - start)
    print(text)
    options.out.write_text(text)


if __name__ == "__main__":
    main()
