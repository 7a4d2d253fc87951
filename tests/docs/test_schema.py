"""The published JSON Schema and the nouns that become JSON are one and the same."""

import json
from dataclasses import fields, is_dataclass, replace
from enum import StrEnum
from pathlib import Path

import jsonschema
import pytest

from defib.core.aftermath import Aftermath, Treated
from defib.core.cause import Cause, Fault
from defib.core.coverage import Coverage, Overhead
from defib.core.diagnosis import Diagnosis, NotRun, Verdict
from defib.core.evidence import Evidence, Unseen
from defib.core.finding import Confidence, Finding, Severity
from defib.core.prognosis import Mechanism, Outlook, Prognosis
from defib.report.json import to_json

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schema/diagnosis-1.json").read_text(encoding="utf-8"))
NOUNS = {
    "finding": Finding,
    "evidence": Evidence,
    "coverage": Coverage,
    "unseen": Unseen,
    "overhead": Overhead,
    "not_run": NotRun,
    "treated": Treated,
    "prognosis": Prognosis,
}


def diagnosis() -> Diagnosis:
    consequence = Finding(
        rule="vanishing-gradient",
        fault=Fault.VANISHING,
        severity=Severity.INFO,
        confidence=Confidence.INFERRED,
        layer="",
        cause=Cause.WEIGHTS,
        message="The gradient is lost on its way to the first layer.",
        evidence=(Evidence(name="decades lost", value=float("inf"), unit="decades"),),
    )
    cause = Finding(
        rule="dead-unit",
        fault=Fault.DEAD_UNITS,
        severity=Severity.ERROR,
        confidence=Confidence.EXACT,
        layer="encoder.0.\u202efc1",
        cause=Cause.DIED_AT_STEP,
        message="3 of 64 units of fc1 died at step 91.",
        units=(1, 5, 9),
        units_total=64,
        since_step=91,
        evidence=(Evidence(name="silent", value=600, unit="steps"), Evidence(name="via", value="bias")),
        modules=("fc1", "relu1"),
        explains=(consequence,),
        try_next=("defib explain dead-unit",),
        prognosis=(
            Prognosis(
                path="encoder.0.\u202efc1",
                units=(1, 5),
                outlook=Outlook.RETURNS,
                mechanism=Mechanism.OSCILLATION,
                reason="weight decay together with momentum brings it back",
                as_of=700,
                samples=640,
                exact=True,
                step=741,
                steps=(741, 760),
                evidence=(Evidence(name="distance from firing", value=0.5),),
            ),
        ),
    )
    return Diagnosis(
        run={"path": "a.rec", "status": "finished"},
        verdict=Verdict.SICK,
        coverage=Coverage(
            layers=3,
            observed=2,
            not_observed=(Unseen(what="fc3", why="never called"),),
            steps=700,
            readings=20,
            samples=640,
        ),
        overhead=Overhead(ratio=None, seconds=0.1, budget=0.01, period=float("nan")),
        findings=(cause,),
        not_run=(NotRun(rule="loss-trend", why="ZeroDivisionError"),),
        treated=(
            Treated(
                step=300,
                treatment="scale-lr",
                stage="done",
                rule="dead-unit",
                layer="encoder.0.\u202efc1",
                dose={"factor": 0.1},
                why="",
                steps_since=400,
                aftermath=Aftermath.GONE,
            ),
        ),
    )


def check(document: object) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(document)


def test_the_schema_is_itself_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_a_diagnosis_with_everything_in_it_is_valid() -> None:
    check(json.loads(to_json(diagnosis())))


def test_an_empty_diagnosis_is_valid() -> None:
    check(json.loads(to_json(replace(diagnosis(), verdict=Verdict.HEALTHY, findings=(), not_run=()))))


@pytest.mark.parametrize(("name", "noun"), NOUNS.items())
def test_the_schema_has_exactly_the_fields_of_the_noun(name: str, noun: type) -> None:
    assert is_dataclass(noun)
    described = SCHEMA["$defs"][name]
    assert list(described["properties"]) == [field.name for field in fields(noun)]
    assert set(described["required"]) == set(described["properties"])
    assert described["additionalProperties"] is False


def test_the_top_level_has_exactly_the_fields_of_a_diagnosis_with_the_schema_first() -> None:
    names = [field.name for field in fields(Diagnosis)]
    assert list(SCHEMA["properties"]) == ["schema", *(name for name in names if name != "schema")]
    assert list(json.loads(to_json(diagnosis()))) == list(SCHEMA["properties"])


@pytest.mark.parametrize(
    ("field", "values"),
    [("fault", Fault), ("severity", Severity), ("confidence", Confidence)],
)
def test_every_value_of_an_enum_is_in_the_schema(field: str, values: type[StrEnum]) -> None:
    assert SCHEMA["$defs"]["finding"]["properties"][field]["enum"] == [value.value for value in values]


def test_every_cause_is_listed_and_one_that_a_later_defib_tells_is_no_error() -> None:
    described = SCHEMA["$defs"]["finding"]["properties"]["cause"]
    assert described["examples"] == [cause.value for cause in Cause]
    document = json.loads(to_json(diagnosis()))
    for cause in (*Cause, "told-in-2031"):
        document["findings"][0]["cause"] = cause
        check(document)
    document["findings"][0]["cause"] = "A sentence."
    with pytest.raises(jsonschema.ValidationError):
        check(document)


def test_every_verdict_is_in_the_schema() -> None:
    assert SCHEMA["properties"]["verdict"]["enum"] == [verdict.value for verdict in Verdict]


@pytest.mark.parametrize(
    ("place", "value"),
    [("verdict", "fine"), ("schema", "defib.diagnosis/2"), ("surprise", 1), ("findings", [{"rule": "x"}])],
)
def test_the_schema_refuses_what_does_not_belong(place: str, value: object) -> None:
    document = json.loads(to_json(diagnosis()))
    document[place] = value
    with pytest.raises(jsonschema.ValidationError):
        check(document)
