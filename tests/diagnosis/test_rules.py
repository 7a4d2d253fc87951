"""Every rule, by its own examples and its own page."""

import copy
import inspect
import pickle
import re
import sys

import pytest

from defib.core.catalogue import entries
from defib.core.errors import UsageError
from defib.core.finding import Severity
from defib.diagnosis.engine import diagnose, judge
from defib.diagnosis.rule import HEADINGS, Case, Rule

RULES = entries(Rule, "defib.diagnosis.rules")  # type: ignore[type-abstract]
CASES = [pytest.param(rule, case, id=f"{rule.slug}: {case.name}") for rule in RULES for case in rule.CASES]
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.slug)


@pytest.mark.parametrize(("rule", "case"), CASES)
def test_each_example_brings_exactly_the_findings_it_should(rule: type[Rule], case: Case) -> None:
    found = list(rule().check(case.build()))
    assert [(f.cause, f.severity) for f in found] == [(e.cause, e.severity) for e in case.expect]
    for finding, expected in zip(found, case.expect, strict=True):
        assert finding.rule == rule.slug
        assert finding.fault == rule.fault_of(finding.cause)
        for name in ("layer", "units", "since_step"):
            if getattr(expected, name) is not None:
                assert getattr(finding, name) == getattr(expected, name), name


@pytest.mark.parametrize(("rule", "case"), CASES)
def test_a_rule_is_pure(rule: type[Rule], case: Case) -> None:
    run = case.build()
    before = pickle.dumps(run)
    first, second = list(rule().check(run)), list(rule().check(copy.deepcopy(run)))
    assert repr(first) == repr(second)
    assert pickle.dumps(run) == before


@each_rule
def test_a_rule_has_sick_and_healthy_examples(rule: type[Rule]) -> None:
    assert any(case.expect for case in rule.CASES)
    assert any(not case.expect for case in rule.CASES)
    names = [case.name for case in rule.CASES]
    assert len(set(names)) == len(names)


@each_rule
def test_every_cause_of_a_rule_is_shown_by_an_example(rule: type[Rule]) -> None:
    shown = {e.cause for case in rule.CASES for e in case.expect}
    expected = set(rule.causes)
    if rule.slug == "non-finite":  # forward and update come from events of the same form
        expected = {c for c in expected if c.value not in {"non-finite-forward", "non-finite-update"}}
    assert expected <= shown <= set(rule.causes)


@each_rule
def test_a_rules_page_has_all_headings_in_order_and_text_below_each(rule: type[Rule]) -> None:
    page = inspect.getdoc(sys.modules[rule.__module__]) or ""
    parts = re.split(r"^## (.*)$", page, flags=re.MULTILINE)
    assert tuple(parts[1::2]) == HEADINGS
    assert all(len(text.split()) >= 5 for text in parts[0::2])


@each_rule
def test_a_rules_page_explains_exactly_the_causes_that_it_can_name(rule: type[Rule]) -> None:
    page = inspect.getdoc(sys.modules[rule.__module__]) or ""
    causes = page.split("## Causes")[1].split("## ")[0]
    assert set(re.findall(r"^- `([a-z-]+)`", causes, flags=re.MULTILINE)) == {str(c) for c in rule.causes}


@each_rule
def test_limits_are_declared_with_unit_meaning_and_reason_and_can_be_set(rule: type[Rule]) -> None:
    for limit in rule.limits:
        assert limit.unit
        assert limit.meaning
        assert limit.reason
        assert rule().limit(limit.name) == limit.default
        assert rule({limit.name: 42.0}).limit(limit.name) == 42.0
    with pytest.raises(UsageError, match="no limit"):
        rule({"no such": 1.0})


@each_rule
def test_a_rule_names_no_treatment(rule: type[Rule]) -> None:
    for case in rule.CASES:
        for finding in rule().check(case.build()):
            words = finding.message.lower()
            assert not re.search(r"\b(try|use|switch to|replace|lower the|reduce|increase|should)\b", words)


@each_rule
def test_arrows_of_explanation_lead_to_rules_that_exist_and_give_a_reason(rule: type[Rule]) -> None:
    for link in rule.consequences:
        assert link.rule in {r.slug for r in RULES}
        assert set(link.when) <= set(rule.causes)
        assert set(link.causes) <= {c for r in RULES if r.slug == link.rule for c in r.causes}
        assert link.why


def test_slugs_and_ranks_tell_the_rules_apart() -> None:
    assert len({rule.slug for rule in RULES}) == len(RULES) >= 6
    assert len({rule.rank for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(("rule", "case"), [p for p in CASES if not p.values[1].expect])  # type: ignore[attr-defined]
def test_a_healthy_example_of_one_rule_alarms_no_other(rule: type[Rule], case: Case) -> None:
    del rule
    findings = diagnose(case.build()).findings
    # A rule of last resort speaks of every run that does not learn, whatever rule the run is an example of.
    last = {r.slug for r in RULES if r.last_resort}
    assert [f for f in findings if f.severity is not Severity.INFO and f.rule not in last] == []


def test_a_changed_limit_changes_the_judgement() -> None:
    from defib.core.config import Settings

    vanishing = next(rule for rule in RULES if rule.slug == "vanishing-gradient")
    run = vanishing.CASES[0].build()
    assert judge(run, [vanishing]).findings
    strict = Settings(rules={"vanishing-gradient": {"decades": 30.0}})
    assert not judge(run, [vanishing], strict).findings
