"""No harmful finding is left without a treatment: every rule's own sick examples, prescribed for."""

import pytest

from defib.core.catalogue import entries
from defib.core.cause import Cause
from defib.core.finding import Finding, Severity
from defib.core.prescription import Prescription, Safety
from defib.core.run import RunView
from defib.diagnosis.engine import GROUP, PACKAGE
from defib.diagnosis.rule import Rule
from defib.therapy.engine import treatments

RULES = entries(Rule, PACKAGE, GROUP)  # type: ignore[type-abstract]

EXCUSED: dict[tuple[str, Cause], str] = {
    ("not-observed", Cause.NO_STEP): "nothing trained: there is nothing to treat",
    ("not-observed", Cause.NO_DATA): "nothing was seen: there is nothing to treat",
    ("not-observed", Cause.NOT_VISIBLE): "what cannot be seen is not treated",
    ("not-observed", Cause.WATCHER_FAULT): "defib's own fault: the run needs no treatment",
}
"""Causes of warnings for which no treatment is indicated, and why."""


def harmful_causes(rule: type[Rule]) -> set[Cause]:
    """Causes that can be a warning or worse: all but those that every case calls information."""
    told: dict[Cause, set[Severity]] = {}
    for case in rule.CASES:
        for expected in case.expect:
            told.setdefault(expected.cause, set()).add(expected.severity)
    return {c for c in rule.causes if told.get(c, {Severity.WARNING}) != {Severity.INFO}}


def harmful_findings() -> list[tuple[str, RunView, Finding]]:
    examples = [(f"{r.slug}: {c.name}", r, c.build()) for r in RULES for c in r.CASES]
    found = [(name, run, finding) for name, rule, run in examples for finding in rule().check(run)]
    return [each for each in found if each[2].severity is not Severity.INFO]


def prescribed(finding: Finding, run: RunView) -> list[Prescription]:
    return [p for cls in treatments() if (p := cls().prescribe(finding, run)) is not None]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.slug)
def test_every_cause_that_can_be_harmful_has_an_indicated_treatment_or_a_reason(rule: type[Rule]) -> None:
    indicated = [i for cls in treatments() for i in cls.indications if i.rule == rule.slug]
    for cause in harmful_causes(rule):
        treated = any(not i.causes or cause in i.causes for i in indicated)
        assert treated != ((rule.slug, cause) in EXCUSED), f"{rule.slug}: {cause}"


def test_every_harmful_example_of_every_rule_gets_a_dose_or_a_patch() -> None:
    examples = harmful_findings()
    assert len(examples) > 40
    without = []
    for name, run, finding in examples:
        if (finding.rule, finding.cause) in EXCUSED:
            continue
        found = prescribed(finding, run)
        if not found:
            without.append(name)
        for each in found:
            assert each.message == finding.message
            assert each.patch or each.safety is not Safety.SOURCE, f"{name}: {each.treatment} shows nothing"
            assert "nan" not in each.patch.split(), f"{name}: {each.treatment}: {each.patch}"
    assert not without


def test_indications_name_rules_and_causes_that_exist() -> None:
    causes = {rule.slug: set(rule.causes) for rule in RULES}
    for cls in treatments():
        for indication in cls.indications:
            assert indication.rule in causes, f"{cls.slug}: {indication.rule}"
            assert set(indication.causes) <= causes[indication.rule], f"{cls.slug}: {indication}"
