"""Every rule and problem class of other tools has a row on our page, and every answer an example."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import small_programs
import torch
from torch import nn

import defib
from defib.core.catalogue import entries
from defib.core.cause import Cause
from defib.core.diagnosis import Diagnosis
from defib.core.errors import UsageError
from defib.core.finding import Finding, Severity
from defib.core.run import Event, RunView
from defib.diagnosis.cases import Plan, broken_loss, run_of
from defib.diagnosis.engine import diagnose
from defib.diagnosis.rule import Rule
from defib.report.json import to_json

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/other-tools.md").read_text(encoding="utf-8")
RULES = {rule.slug: rule for rule in entries(Rule, "defib.diagnosis.rules")}  # type: ignore[type-abstract]
CAUSES = {cause.value for cause in Cause}
COMMANDS = {f"defib {path.stem}" for path in (ROOT / "src/defib/cli/commands").glob("[a-z]*.py")}

SAGEMAKER = {
    "DeadRelu", "ExplodingTensor", "PoorWeightInitialization", "SaturatedActivation", "VanishingGradient",
    "WeightUpdateRatio", "AllZero", "ClassImbalance", "LossNotDecreasing", "Overfit", "Overtraining",
    "SimilarAcrossRuns", "StalledTrainingRule", "TensorVariance", "UnchangedTensor", "CheckInputImages",
    "NLPSequenceRatio",
}  # fmt: skip
"""The 17 whose scope holds deep-learning frameworks or applications."""
AUTOTRAINER = {
    "Vanishing gradient", "Exploding gradient", "Dying ReLU", "Oscillating loss", "Slow convergence",
    "Abnormal loss", "Large weights", "Improper activation", "Improper loss", "Abnormal data",
}  # fmt: skip
NO_ANSWER = {
    "TreeDepth", "FeatureImportanceOverweight", "CreateXgboostReport", "High validation accuracy",
    "High dropout",
}  # fmt: skip

Row = tuple[str, tuple[str, ...]]


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.split(f"## {title}\n")[1], flags=re.MULTILINE)[0]


def rows(text: str) -> Iterator[Row]:
    """Name and answers of each row of the tables in a text."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and not cells[0].startswith("Their"):
            yield cells[0], tuple(re.findall(r"`([^`]+)`", cells[2]))


ROWS = list(rows(PAGE))
ANSWERS = [pytest.param(answer, id=answer) for answer in sorted({a for _, answers in ROWS for a in answers})]


def everything(diagnosis: Diagnosis) -> list[Finding]:
    """All findings, those inside others included."""
    found = list(diagnosis.findings)
    for finding in found:
        found += finding.explains
    return found


# ------------------------------------------------------------------ the page


def test_each_of_the_17_rules_and_each_problem_class_has_one_row():
    first_table = section("SageMaker Debugger").split("Its other rules")[0]
    assert sorted(name for name, _ in rows(first_table)) == sorted(SAGEMAKER)
    assert len(SAGEMAKER) == 17
    assert {name for name, _ in rows(section("AUTOTRAINER"))} == AUTOTRAINER
    counts = {title: len(list(rows(section(title)))) for title in ("DeepDiagnosis", "DeepLocalize", "UMLAUT")}
    assert counts == {"DeepDiagnosis": 10, "DeepLocalize": 5, "UMLAUT": 8}
    names = [name for name, _ in ROWS]
    assert len(set(names)) == len(names)


def test_every_row_has_an_answer_or_says_that_there_is_none():
    assert {name for name, answers in ROWS if not answers} == NO_ANSWER


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_rule_cause_and_command_that_is_named_exists(answer):
    assert answer in RULES or answer in CAUSES or answer in COMMANDS


# ------------------------------------------------------------------ an example of each answer


def stage(name: str) -> Callable[[], RunView]:
    """A run whose first NaN came about in that stage."""
    event = Event(step=7, kind="non-finite", data={"stage": name, "where": "fc1", "operation": ""})
    return lambda: run_of(Plan(path="fc1"), loss=broken_loss(at=8), events=(event,))


MADE_UP: dict[str, Callable[[], RunView]] = {
    "non-finite-forward": stage("forward"),
    "non-finite-update": stage("update"),
}


def examples(answer: str) -> list[Callable[[], RunView]]:
    """Made-up runs that show a rule, or a cause."""
    if answer in MADE_UP:
        return [MADE_UP[answer]]
    return [
        case.build
        for rule in RULES.values()
        for case in rule.CASES
        if case.expect and (rule.slug == answer or any(e.cause == answer for e in case.expect))
    ]


@pytest.mark.parametrize("answer", [p for p in ANSWERS if p.values[0] not in COMMANDS])
def test_every_answer_is_given_for_an_example_by_the_whole_of_the_rules(answer):
    runs = examples(answer)
    assert runs
    shown = [f for build in runs for f in everything(diagnose(build()))]
    assert any(answer in {f.rule, f.cause.value} for f in shown)


def test_what_the_named_commands_say():
    bad = nn.Sequential(*(m for _ in range(6) for m in (nn.Linear(32, 32), nn.ReLU())), nn.Linear(32, 4))
    with torch.no_grad():
        for parameter in bad.parameters():
            parameter *= 0.01
    batch = torch.randn(64, 32), torch.randint(4, (64,))
    assert "initialisation" in {f.rule for f in defib.check(bad, batch).findings}
    with pytest.raises(UsageError, match="the model raised RuntimeError"):
        defib.check(nn.Linear(8, 4), (torch.ones(4, 8, dtype=torch.int64), torch.zeros(4).long()))
    one, other = (RULES[slug].CASES[0].build for slug in ("dead-unit", "overfit"))
    assert to_json(diagnose(one())) == to_json(diagnose(one())) != to_json(diagnose(other()))


# ------------------------------------------------------------------ real programs for what is new

SICK = {
    "a_rare_class_is_missed": ("class-imbalance", Cause.CLASS_IMBALANCE, Severity.WARNING),
    "a_quarter_of_64_labels_is_wrong": ("overfit", Cause.OVERFITTED, Severity.WARNING),
    "all_labels_are_wrong": ("overfit", Cause.NOT_GENERALISING, Severity.WARNING),
    "the_rate_is_zero": ("lr-too-low", Cause.LR_ZERO, Severity.ERROR),
}
WORTH_KNOWING = {
    "a_rare_class_is_learned": ("class-imbalance", Cause.CLASS_IMBALANCE, Severity.INFO),
    "eights_are_labelled_as_threes": ("confused-classes", Cause.CLASSES_CONFUSED, Severity.INFO),
    "a_third_of_the_labels_is_noise": ("gradient-noise", Cause.NOISE_FLOOR, Severity.INFO),
    "most_of_the_input_is_padding": ("repeated-token", Cause.REPEATED_TOKEN, Severity.INFO),
}
QUIET = ("a_thousand_labels_are_right", "little_of_the_input_is_padding", "nothing_is_the_matter")
NEW = {"class-imbalance", "overfit", "confused-classes", "gradient-noise", "repeated-token"}


def judged(name: str, folder: Path) -> list[tuple[str, Cause, Severity]]:
    """The new rules' findings of a program, and all that are no information."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    run = small_programs.PROGRAMS[name](folder)
    assert run.faults == 0
    assert run.record_fault is None
    diagnosis = run.diagnose()
    assert not diagnosis.not_run
    found = [f for f in diagnosis.findings if f.rule in NEW or f.severity is not Severity.INFO]
    return [(f.rule, f.cause, f.severity) for f in found]


def test_every_program_is_asked_about():
    assert set(SICK) | set(WORTH_KNOWING) | set(QUIET) == set(small_programs.PROGRAMS)


@pytest.mark.parametrize(("name", "expected"), [*SICK.items(), *WORTH_KNOWING.items()])
def test_a_program_with_that_trouble_gets_that_answer_and_no_other(name, expected, tmp_path):
    assert judged(name, tmp_path) == [expected]


@pytest.mark.parametrize("name", QUIET)
def test_a_program_without_it_does_not(name, tmp_path):
    assert judged(name, tmp_path) == []
