"""The published schemas of prescriptions and trials, and the nouns that become JSON, are one and the same."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from defib.core.cause import Cause
from defib.core.prescription import PLAN, Plan, Prescription, Safety
from defib.core.trial import Comparison, Goal, Outcome, Verdict
from defib.report.json import to_json

FOLDER = Path(__file__).parents[2] / "docs/schema"


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return found


PRESCRIPTION, TRIAL = schema("prescription-1.json"), schema("trial-1.json")


def plan() -> Plan:
    found = Prescription(
        treatment="nudge-bias",
        rule="dead-unit",
        cause=Cause.BORN_DEAD,
        layer="encoder.0.\u202efc1",
        safety=Safety.PRESERVES,
        reason="it fires again",
        strength=0.5,
        dose={
            "layer": "fc1",
            "units": (1.0, 5.0),
            "by": (0.5, float("inf")),
            "activation": "relu",
            "keep": True,
        },
        at=40,
    )
    asked = Prescription(
        treatment="he-init",
        rule="",
        cause=None,
        layer="",
        safety=Safety.RESTART,
        reason="asked for",
        strength=1,
    )
    return Plan(run={"path": "a.rec"}, verdict="sick", prescriptions=(found, asked))


def verdict() -> Verdict:
    outcome = Outcome(
        arm="scale-lr", seed=0, score=None, loss=0.5, first_loss=float("inf"), steps=30, seconds=1.5, code=0,
        stop_at=30, treated=("scale-lr",), record="runs/a/run.rec", cpu=2.0, gain=0.1, wrong=None,
    )  # fmt: skip
    comparison = Comparison(
        arm="scale-lr", answer="stopped", difference=None, low=None, high=None, effect=None, pairs=0,
        score=None, why="at step 30",
    )  # fmt: skip
    return Verdict(
        script="train.py",
        measure="final training loss",
        goal=Goal.LOWER,
        best="",
        comparisons=(comparison,),
        outcomes=(outcome,),
        cost=2.0,
        diagnosis="it is so",
        patches=("in the source",),
    )


@pytest.mark.parametrize("document", [PRESCRIPTION, TRIAL])
def test_each_schema_is_itself_valid(document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(document)


@pytest.mark.parametrize(("noun", "document"), [(plan(), PRESCRIPTION), (verdict(), TRIAL)])
def test_what_is_printed_is_valid(noun: Plan | Verdict, document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(document).validate(json.loads(to_json(noun)))


@pytest.mark.parametrize(
    ("noun", "described"),
    [
        (Plan, PRESCRIPTION),
        (Prescription, PRESCRIPTION["$defs"]["prescription"]),
        (Verdict, TRIAL),
        (Comparison, TRIAL["$defs"]["comparison"]),
        (Outcome, TRIAL["$defs"]["outcome"]),
    ],
)
def test_each_schema_has_exactly_the_fields_of_its_noun(noun: type, described: dict[str, Any]) -> None:
    names = [field.name for field in fields(noun)]
    assert sorted(described["properties"]) == sorted(names)
    assert set(described["required"]) == set(names)
    assert described["additionalProperties"] is False
    assert all(each.get("description") for each in described["properties"].values())


def test_every_value_of_an_enum_is_in_the_schema() -> None:
    properties = PRESCRIPTION["$defs"]["prescription"]["properties"]
    assert properties["safety"]["enum"] == [safety.value for safety in Safety]
    assert TRIAL["properties"]["goal"]["enum"] == [goal.value for goal in Goal]
    assert PRESCRIPTION["properties"]["schema"]["const"] == PLAN
    assert TRIAL["properties"]["schema"]["const"] == verdict().schema


@pytest.mark.parametrize(
    ("place", "value"), [("schema", "defib.trial/2"), ("surprise", 1), ("outcomes", [{"arm": "x"}])]
)
def test_a_schema_refuses_what_does_not_belong(place: str, value: object) -> None:
    document = json.loads(to_json(verdict()))
    document[place] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(TRIAL).validate(document)
