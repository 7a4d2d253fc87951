"""Every example says what the answer should be; here it is asked for, through the real command."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
ALARMING = {"error", "warning"}
KEYS = {"fault", "layer", "cause", "severity", "units"}


def expectation(script: Path) -> dict[str, str]:
    """The last line of the module docstring as a mapping; empty for "expected: healthy"."""
    docstring = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    last = docstring.splitlines()[-1]
    if last == "expected: healthy":
        return {}
    match = re.fullmatch(r"expected:((?: \w+=\S+)+)", last)
    assert match, f"{script.name}: the docstring must end with an expected: line, not {last!r}"
    return dict(pair.split("=", 1) for pair in match[1].split())


def answer(script: Path, record: Path) -> dict[str, Any]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    run = [sys.executable, "-m", "defib", "run", "-q", "-o", str(record), str(script)]
    done = subprocess.run(run, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "loss" in done.stdout
    diagnose = [sys.executable, "-m", "defib", "diagnose", str(record), "--json"]
    told = subprocess.run(diagnose, capture_output=True, text=True, env=environment, check=False)
    assert told.returncode == 0, told.stderr
    result: dict[str, Any] = json.loads(told.stdout)
    return result


def agrees(finding: dict[str, Any], wanted: dict[str, str]) -> bool:
    told = {**finding, "units": ",".join(str(unit) for unit in finding["units"])}
    return all(told[key] == value for key, value in wanted.items())


def test_there_are_sick_and_healthy_examples() -> None:
    stated = [expectation(script) for script in EXAMPLES]
    assert sum(not wanted for wanted in stated) >= 2
    assert sum(bool(wanted) for wanted in stated) >= 5


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_knows_nothing_of_defib_and_states_its_answer(script: Path) -> None:
    assert set(expectation(script)) <= KEYS
    imported = [
        node
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    names = {alias.name for node in imported for alias in node.names} | {
        node.module for node in imported if isinstance(node, ast.ImportFrom)
    }
    assert not any((name or "").split(".")[0] == "defib" for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_the_answer_is_the_one_that_the_example_states(script: Path, tmp_path: Path) -> None:
    wanted = expectation(script)
    diagnosis = answer(script, tmp_path / "example.rec")
    findings = diagnosis["findings"]
    alarming = [finding for finding in findings if finding["severity"] in ALARMING]
    assert diagnosis["coverage"]["readings"] > 0
    assert diagnosis["not_run"] == []
    if wanted.get("severity") in ALARMING:
        assert diagnosis["verdict"] == "sick"
        assert agrees(findings[0], wanted), json.dumps(findings, indent=1)
    else:
        assert diagnosis["verdict"] == "healthy"
        assert alarming == [], json.dumps(alarming, indent=1)
        assert not wanted or any(agrees(finding, wanted) for finding in findings), findings
