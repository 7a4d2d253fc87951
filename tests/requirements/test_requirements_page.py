"""The page of requirements and the tests that it names are the same list."""

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "requirements.md").read_text(encoding="utf-8")
MET, OPEN = PAGE.split("## Not addressed yet")
ASKED_FOR_NOW = {1, *range(3, 6), *range(8, 15), 16, 17, *range(21, 25), *range(26, 35)}


def written() -> set[str]:
    return {
        node.name
        for path in HERE.glob("test_required_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_r")
    }


def numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"^\| R(\d+) \|", text, flags=re.MULTILINE)]


def test_every_test_of_a_requirement_is_on_the_page_and_every_test_on_the_page_exists():
    assert set(re.findall(r"`(test_\w+)`", PAGE)) == written()


def test_every_requirement_is_on_the_page_once():
    assert sorted(numbers(MET) + numbers(OPEN)) == list(range(1, 37))
    assert set(numbers(MET)) == ASKED_FOR_NOW


def test_a_requirement_that_is_met_names_tests_of_its_own_number():
    for line in MET.splitlines():
        number = re.match(r"\| R(\d+) \|", line)
        if number:
            tests = re.findall(r"`test_r(\d+)_", line)
            assert tests, line
            assert {int(n) for n in tests} == {int(number[1])}
