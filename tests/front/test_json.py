"""The answer as data."""

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from defib.core.coverage import Coverage, Overhead
from defib.core.diagnosis import Diagnosis
from defib.core.evidence import Evidence
from defib.core.finding import Finding, Severity
from defib.report.json import to_json, to_plain


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def parsed(diagnosis: Diagnosis) -> dict:
    return json.loads(to_json(diagnosis), parse_constant=refuse)


def test_the_object_is_the_documented_one(sick):
    assert parsed(sick) == {
        "schema": "defib.diagnosis/1",
        "run": {"path": "runs/a.rec", "status": "finished"},
        "verdict": "sick",
        "coverage": {
            "layers": 3,
            "observed": 2,
            "not_observed": [{"what": "head", "why": "runs inside torch.compile"}],
            "steps": 200,
            "readings": 14,
            "samples": 448,
        },
        "overhead": {"ratio": 0.0081, "seconds": 0.5, "budget": 0.01, "period": 16},
        "findings": [
            {
                "rule": "dead-unit",
                "fault": "dead_units",
                "severity": "error",
                "confidence": "exact",
                "layer": "fc2",
                "cause": "died-at-step",
                "message": "4 of 8 units of fc2 stopped firing at step 41.",
                "call": 0,
                "units": [0, 1, 2, 6],
                "units_total": 8,
                "since_step": 41,
                "evidence": [
                    {"name": "silent samples", "value": 5120, "unit": "samples"},
                    {"name": "firing rate at most", "value": 0.000586, "unit": "1"},
                ],
                "modules": ["fc2", "relu2"],
                "explains": [
                    {
                        "rule": "vanishing-gradient",
                        "fault": "vanishing",
                        "severity": "error",
                        "confidence": "measured",
                        "layer": "fc1",
                        "cause": "activation-derivative",
                        "message": "No gradient reaches fc1.",
                        "call": 0,
                        "units": [],
                        "units_total": 0,
                        "since_step": None,
                        "evidence": [],
                        "modules": [],
                        "explains": [],
                        "try_next": [],
                        "prognosis": [],
                    }
                ],
                "try_next": ["lower the learning rate"],
                "prognosis": [],
            }
        ],
        "not_run": [],
        "treated": [],
    }


def test_the_schema_comes_first(sick):
    assert next(iter(parsed(sick))) == "schema"


@pytest.mark.parametrize(
    ("part", "of"),
    [
        (lambda d: d, Diagnosis),
        (lambda d: d["findings"][0], Finding),
        (lambda d: d["coverage"], Coverage),
        (lambda d: d["overhead"], Overhead),
        (lambda d: d["findings"][0]["evidence"][0], Evidence),
    ],
)
def test_no_field_is_lost_or_invented(sick, part, of):
    assert set(part(parsed(sick))) == {f.name for f in fields(of)}


@pytest.mark.parametrize(
    ("value", "written"),
    [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"), (np.float32("nan"), "nan")],
)
def test_numbers_that_json_lacks_become_words(sick, finding, value, written):
    bad = replace(finding, evidence=(Evidence(name="x", value=value),))
    assert parsed(replace(sick, findings=(bad,)))["findings"][0]["evidence"][0]["value"] == written


@pytest.mark.parametrize("name", ["\x1b[31m", "\u202e", "\ud800", "a\nb\0", "x" * 10_000, "é漢"])
def test_a_hostile_name_is_kept_exactly_in_ascii(sick, finding, name):
    text = to_json(replace(sick, findings=(replace(finding, layer=name),)))
    assert text.isascii()
    assert json.loads(text)["findings"][0]["layer"] == name


def test_numpy_and_paths_become_plain():
    given = {
        "a": np.int64(3),
        "b": np.arange(2),
        "c": np.bool_(True),
        "d": Path("x"),
        5: {2, 1},
        "e": Severity.ERROR,
    }
    plain = to_plain(given)
    assert plain == {"a": 3, "b": [0, 1], "c": True, "d": "x", "5": [1, 2], "e": "error"}
    assert type(plain["a"]) is int
    assert type(plain["c"]) is bool
    assert type(plain["e"]) is str
