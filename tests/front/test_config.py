"""Settings: file, environment, and what is refused."""

from pathlib import Path

import pytest

from defib.core.config import Settings, load_settings, parse_budget, parse_every
from defib.core.errors import UsageError


def written(folder: Path, text: str) -> Path:
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    return folder


def test_without_a_file_the_defaults_hold(tmp_path):
    written(tmp_path, "[project]\nname = 'x'\n")
    assert load_settings(tmp_path, {}) == Settings(source=tmp_path / "pyproject.toml")


def test_the_nearest_file_above_is_read(tmp_path):
    written(
        tmp_path,
        '[tool.defib]\nbudget = "2%"\nevery = 7\noutput = "runs"\nquiet = true\n'
        "[tool.defib.rules.dead-unit]\nmost = 3\n",
    )
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert load_settings(deep, {}) == Settings(
        budget=0.02,
        every=7,
        output=tmp_path / "runs",
        quiet=True,
        rules={"dead-unit": {"most": 3.0}},
        source=tmp_path / "pyproject.toml",
    )


def test_the_environment_wins_over_the_file(tmp_path):
    written(tmp_path, "[tool.defib]\nbudget = 0.02\nevery = 7\n")
    settings = load_settings(tmp_path, {"DEFIB_BUDGET": "3%", "DEFIB_EVERY": "", "DEFIB_QUIET": "yes"})
    assert (settings.budget, settings.every, settings.quiet) == (0.03, 7, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.defib]\nbudgett = 1\n", "did you mean budget?"),
        ("[tool.defib]\nzzz = 1\n", "no such setting"),
        ("[tool.defib]\nbudget = 5\n", "between 0 and 100%"),
        ("[tool.defib]\nbudget = true\n", "a share of the time"),
        ("[tool.defib]\nevery = 0\n", "at least 1"),
        ("[tool.defib]\nevery = 1.5\n", "whole number"),
        ("[tool.defib]\noutput = 3\n", "is a path"),
        ('[tool.defib]\nquiet = "perhaps"\n', "true or false"),
        ("[tool.defib]\nrules = 3\n", "tables of their own"),
        ("[tool.defib.rules.dead-unit]\nmost = 'x'\n", "dead-unit.most: a limit is a number"),
        ("[tool]\ndefib = 3\n", "to be a table"),
        ("[tool.defib\n", "cannot read the settings"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, text, said):
    written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_settings(tmp_path, {})
    assert said in str(caught.value)
    assert "pyproject.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_variable_is_named():
    with pytest.raises(UsageError, match=r"DEFIB_BUDGET: .*'lots'"):
        load_settings(Path("/"), {"DEFIB_BUDGET": "lots"})


@pytest.mark.parametrize(("given", "share"), [("1%", 0.01), ("0.5 %", 0.005), ("0.01", 0.01), (0.2, 0.2)])
def test_a_budget_is_a_share(given, share):
    assert parse_budget(given) == pytest.approx(share)


@pytest.mark.parametrize("given", ["0", "-1%", "1", 1, "100%", "nan", "inf", "", "%", "x", None, True, [1]])
def test_no_other_budget_is_taken(given):
    with pytest.raises(UsageError, match="budget"):
        parse_budget(given)


@pytest.mark.parametrize("given", ["0", -3, "1.5", "", None, True, "x"])
def test_no_other_period_is_taken(given):
    with pytest.raises(UsageError, match="steps between readings"):
        parse_every(given)
