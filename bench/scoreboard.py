"""Every case and its fixed twin under `defib run` with default settings, scored.

Command: .venv/bin/python bench/scoreboard.py [--cases DIR --out PAGE] [--only ID ...] [--jobs 2]

A case is ``case_ID.py`` (an ordinary script; ``--fixed`` applies the fix) beside
``case_ID.json`` with its known cause. The scripts are run unchanged. Scoring is
that of the cases' README: detected (a finding of warning or worse), right (the
first finding's fault is expected or also accepted), strict (expected), false
alarm (a warning or worse on a healthy or fixed run). The page of other cases than the
default ones is written only where --out says.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from scipy.stats import beta

HERE = Path(__file__).parent
CASES = HERE.parent.parent / "shared" / "cases"
RESULT = HERE / "results" / "scoreboard.md"
ALARMING = {"error", "warning"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run of one script."""

    case: str
    fixed: bool
    expected: str
    accepted: tuple[str, ...]
    seconds: float
    metric: float
    diagnosis: dict[str, Any]

    @property
    def healthy(self) -> bool:
        return self.fixed or self.expected == "healthy"

    @property
    def findings(self) -> list[dict[str, Any]]:
        return self.diagnosis.get("findings", [])

    @property
    def alarms(self) -> list[dict[str, Any]]:
        return [f for f in self.findings if f["severity"] in ALARMING]

    @property
    def top(self) -> str:
        return self.findings[0]["fault"] if self.findings else ""

    @property
    def right(self) -> bool:
        return self.top in {self.expected, *self.accepted}

    @property
    def strict(self) -> bool:
        return self.top == self.expected


def run(script: Path, fixed: bool, folder: Path) -> Outcome:
    """The script under watch, and its record judged."""
    facts = json.loads(script.with_suffix(".json").read_text())
    record = folder / f"{script.stem}{'-fixed' if fixed else ''}.rec"
    command = [sys.executable, "-m", "defib", "run", "-q", "-o", str(record), str(script)]
    start = time.monotonic()
    done = subprocess.run(
        [*command, *(["--fixed"] if fixed else [])], capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - start
    last = done.stdout.strip().splitlines()[-1:] or [""]
    judged = subprocess.run(
        [sys.executable, "-m", "defib", "diagnose", str(record), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if judged.returncode not in {0, 1}:
        print(f"{script.stem}: {judged.stderr.strip()}", file=sys.stderr)
    return Outcome(
        case=facts["id"],
        fixed=fixed,
        expected=facts["expected_fault"],
        accepted=tuple(facts.get("also_accept", ())),
        seconds=seconds,
        metric=float(last[0].split()[-1]) if last[0].startswith("final") else float("nan"),
        diagnosis=json.loads(judged.stdout) if judged.stdout else {},
    )


def interval(hits: int, total: int) -> str:
    """Share with its 95 % Clopper-Pearson interval."""
    if not total:
        return "no runs"
    low = 0.0 if hits == 0 else float(beta.ppf(0.025, hits, total - hits + 1))
    high = 1.0 if hits == total else float(beta.ppf(0.975, hits + 1, total - hits))
    return f"{hits} of {total} = {hits / total:.1%} [{low:.1%}, {high:.1%}]"


def page(outcomes: list[Outcome], seconds: float, title: str, note: str) -> str:
    """The scoreboard as Markdown."""
    sick = [o for o in outcomes if not o.healthy]
    sound = [o for o in outcomes if o.healthy]
    detected = [o for o in sick if o.alarms]
    findings = sum(len(o.alarms) for o in detected)
    alarmed = sum(bool(o.alarms) for o in sound)
    lines = [
        f"# {title}",
        "",
        *([note, ""] if note else []),
        f"Made by `.venv/bin/python {' '.join(['bench/scoreboard.py', *map(shlex.quote, sys.argv[1:])])}`, "
        f"{date.today()}, {len(outcomes)} runs in {seconds:.0f} s; 95 % Clopper-Pearson intervals.",
        "",
        f"- detected: {interval(len(detected), len(sick))}",
        f"- first finding right (expected or accepted): {interval(sum(o.right for o in sick), len(sick))}",
        f"- first finding strictly the expected fault: {interval(sum(o.strict for o in sick), len(sick))}",
        f"- false alarms on healthy and fixed runs: {interval(alarmed, len(sound))}",
        f"- findings of warning or worse for each detected run: {findings / max(len(detected), 1):.2f}",
        "",
        "| case | run | metric | expected | first finding | cause | layer | since | alarms | right | s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for o in sorted(outcomes, key=lambda o: (o.healthy, o.case)):
        top = o.findings[0] if o.findings else {}
        right = ("no alarm" if not o.alarms else "FALSE ALARM") if o.healthy else "yes" if o.right else "NO"
        lines.append(
            f"| {o.case} | {'fixed' if o.fixed else 'as is'} | {o.metric:.3g} | "
            f"{'healthy' if o.healthy else o.expected} | {top.get('rule', '-')} ({top.get('fault', '-')}, "
            f"{top.get('severity', '-')}) | {top.get('cause', '-')} | {top.get('layer', '') or '-'} | "
            f"{top.get('since_step', '-')} | {len(o.alarms)} | {right} | {o.seconds:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, default=CASES)
    parser.add_argument("--out", type=Path, default=None, help="write the page here")
    parser.add_argument("--title", default="Scoreboard")
    parser.add_argument("--note", default="", help="a paragraph under the title")
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=None, help="keep the records in this folder")
    options = parser.parse_args()
    scripts = sorted(options.cases.glob("case_*.py"))
    if not scripts:
        print(f"no case_*.py in {options.cases}: nothing scored; name their folder with --cases")
        return
    if options.only:
        scripts = [s for s in scripts if s.stem.removeprefix("case_") in options.only]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.jobs) as pool:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [(script, fixed) for script in scripts for fixed in (False, True)]
        outcomes = list(pool.map(lambda job: run(*job, folder), jobs))
    text = page(outcomes, time.monotonic() - start, options.title, options.note)
    print(text)
    out = options.out or (None if options.only or options.cases != CASES else RESULT)
    if out:
        out.parent.mkdir(exist_ok=True)
        out.write_text(text)


if __name__ == "__main__":
    main()
