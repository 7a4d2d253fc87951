"""How much each treatment helped where it was prescribed: what `defib prescribe` ranks by.

Command: .venv/bin/python bench/strengths.py [--programs DIR --work DIR --most 8 --seeds 1 --only ID ...]

Every failing program of ``bench/programs`` is run once under watch and diagnosed; each treatment
that can be given live is then given, as prescribed, to a run of its own. What it was worth is
the share of the gap between the failing and the fixed program that the program's own metric
closed, cut to 0 to 1. The sums by rule, cause and treatment go to
``src/defib/therapy/experience.json``, from which ``defib.therapy.experience`` ranks. The cases that
``bench/repair.py`` measures repair with (``shared/cases``) are not read here, and must not be.

Killed in between, the same command goes on where it was (``--work``).
"""

import argparse
import json
import math
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from defib import api, care
from defib.core.prescription import Prescription, Safety

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
EXPERIENCE = HERE.parent / "src" / "defib" / "therapy" / "experience.json"
RESULT = HERE / "results" / "strengths.md"
METRIC = r"final \S+ ([-+0-9.einfa]+)"


@dataclass(frozen=True, kw_only=True)
class Trying:
    """One treatment of one program.

    Attributes:
        program: The program.
        seed: Added to its seeds.
        rule: The finding's rule.
        cause: Its cause.
        treatment: The treatment.
        judged: Strength as it was prescribed at that time.
        before: The program's metric untreated, with the same seed.
        after: The metric treated; None if it was NaN or the run crashed.
        fixed: The metric of the fixed program.
        given: Whether it could be given.
    """

    program: str
    seed: int
    rule: str
    cause: str
    treatment: str
    judged: float
    before: float
    after: float | None
    fixed: float
    given: bool

    @property
    def closed(self) -> float:
        """Share of the gap that was closed, 0 to 1; nothing where the metric was lost."""
        if self.after is None or not self.given or self.fixed == self.before:
            return 0.0
        return min(1.0, max(0.0, (self.after - self.before) / (self.fixed - self.before)))


def run_once(script: Path, record: Path, words: list[str]) -> float | None:
    """The metric of one run under watch; None if there is none, or it is no number."""
    command = [sys.executable, "-m", "defib", "run", "-q", "-f", "-o", str(record), *words, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    found = re.findall(METRIC, done.stdout)
    value = float(found[-1]) if found else math.nan
    return value if math.isfinite(value) else None


def candidates(record: Path, most: int) -> list[Prescription]:
    """What is prescribed and can be given live, each treatment once, the first of each finding first."""
    run = api.open_run(record)
    live = [p for p in run.prescribe() if p.safety is not Safety.SOURCE]
    return list({p.treatment: p for p in reversed(live)}.values())[::-1][:most]


def tried(script: Path, work: Path, most: int, seed: int) -> list[Trying]:
    """All treatments of one program with one seed; nothing where it is not sick or has no repair."""
    facts = json.loads(script.with_suffix(".json").read_text())
    if facts["expected_fault"] == "healthy" or "fixed_metric_observed" not in facts:
        return []
    kept = work / f"{script.stem}-{seed}.json"
    if kept.exists():
        return [Trying(**each) for each in json.loads(kept.read_text())]
    record, shifted = work / f"{script.stem}-{seed}.rec", ["--seed-shift", str(seed)]
    failing = facts.get("failing_if_metric_at_most_or_nan")
    before = run_once(script, record, shifted)
    lost = facts.get("buggy_metric_observed") if before is None else before
    start = float(lost if lost is not None else failing or 0.0)
    found = []
    for each in candidates(record, most):
        plan = work / "treat.json"
        plan.write_text(json.dumps([care.as_data(each)]))
        treated = work / "treated.rec"
        words = [*shifted, "--treat", f"@{plan}", "--treat-at", str(each.at)]
        after = run_once(script, treated, words)
        stages = [e.data.get("stage") for e in api.open_run(treated).view.of_kind("treatment")]
        found.append(
            Trying(
                program=script.stem.removeprefix("case_"),
                seed=seed,
                rule=each.rule,
                cause=str(each.cause or ""),
                treatment=each.treatment,
                judged=each.strength,
                before=start,
                after=after,
                fixed=float(facts["fixed_metric_observed"]),
                given="done" in stages,
            )
        )
    kept.write_text(json.dumps([asdict(t) for t in found], indent=1))
    return found


def experience(tries: list[Trying], command: str) -> dict[str, object]:
    """Sums by rule, cause and treatment, as the package keeps them."""
    sums: dict[tuple[str, str, str], list[float]] = {}
    for t in tries:
        if t.given:  # a refusal says nothing about what the treatment would have done
            sums.setdefault((t.rule, t.cause, t.treatment), []).append(t.closed)
    entries = [
        {"rule": r, "cause": c, "treatment": t, "tried": len(v), "closed": round(sum(v), 3)}
        for (r, c, t), v in sorted(sums.items())
    ]
    programs = len({t.program for t in tries})
    return {"made_by": command, "made": str(date.today()), "programs": programs, "entries": entries}


def page(tries: list[Trying], command: str) -> str:
    """What was seen, as Markdown."""
    revision = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=HERE
    ).stdout.strip()
    groups: dict[tuple[str, str, str], list[Trying]] = {}
    for t in tries:
        groups.setdefault((t.rule, t.cause, t.treatment), []).append(t)
    lines = [
        "# How much each treatment helped where it was prescribed",
        "",
        f"`{command}`, {date.today()}, git {revision}: {len(tries)} treated runs of "
        f"{len({t.program for t in tries})} failing programs of `bench/programs`, none of `shared/cases`.",
        "",
        "Closed is the share of the gap between the failing and the fixed program, by the program's own",
        "metric, 0 to 1. A judged strength counts as much as two programs; see `defib.therapy.experience`.",
        "",
        "| rule | cause | treatment | judged | tried | closed, mean | at least half |",
        "|---|---|---|---|---|---|---|",
    ]
    for (rule, cause, slug), own in sorted(groups.items()):
        mean = sum(t.closed for t in own) / len(own)
        half = sum(t.closed >= 0.5 for t in own)
        lines.append(f"| {rule} | {cause} | {slug} | {own[0].judged} | {len(own)} | {mean:.2f} | {half} |")
    lines += ["", "## Every run", "", "| program | seed | treatment | before | after | fixed | closed |"]
    lines.append("|---|---|---|---|---|---|---|")
    for t in tries:
        after = "refused" if not t.given else "lost" if t.after is None else f"{t.after:.3g}"
        lines.append(
            f"| {t.program} | {t.seed} | {t.treatment} | {t.before:.3g} | {after} | {t.fixed:.3g} "
            f"| {t.closed:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--programs", type=Path, default=PROGRAMS)
    parser.add_argument("--work", type=Path, default=Path("/tmp/defib-strengths"))
    parser.add_argument("--most", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    if options.programs.resolve().name == "cases":
        sys.exit("strengths are not learnt from the cases that measure repair")
    options.work.mkdir(parents=True, exist_ok=True)
    scripts = sorted(options.programs.glob("case_*.py"))
    chosen = [s for s in scripts if not options.only or any(o in s.stem for o in options.only)]
    tries = []
    for seed in range(options.seeds):
        for script in chosen:
            found = tried(script, options.work, options.most, seed)
            tries += found
            print(f"{script.stem} seed {seed}: {len(found)} treatments", file=sys.stderr, flush=True)
    command = " ".join(["bench/strengths.py", *sys.argv[1:]])
    if options.programs == PROGRAMS and not options.only:
        EXPERIENCE.write_text(json.dumps(experience(tries, command), indent=1) + "\n")
        RESULT.write_text(page(tries, command), encoding="utf-8")
    print(page(tries, command))


if __name__ == "__main__":
    main()
