"""Every rule, command, cause and error has a page, and links to nothing outside (invariant 12)."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from defib.core.cause import Cause
from defib.core.errors import DefibError

ROOT = Path(__file__).parents[2]


def descendants(base: type[DefibError]) -> list[type[DefibError]]:
    return [base, *(found for child in base.__subclasses__() for found in descendants(child))]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_pages", ROOT / "docs/gen/pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(generator: ModuleType) -> dict[str, str]:
    return generator.pages()


def test_every_rule_file_has_a_page_and_a_line_in_the_list(pages: dict[str, str]) -> None:
    files = [p.stem for p in (ROOT / "src/defib/diagnosis/rules").glob("[a-z]*.py")]
    assert len(files) >= 6
    for slug in (name.replace("_", "-") for name in files):
        assert len(pages[f"rules/{slug}.md"]) > 500
        assert f"({slug}.md)" in pages["rules/index.md"]


def test_every_treatment_file_has_a_page_and_a_line_in_the_list(
    generator: ModuleType, pages: dict[str, str]
) -> None:
    files = list((ROOT / "src/defib/therapy/treatments").glob("[a-z]*.py"))
    slugs = [Path(path).stem for path in generator.treatment_pages() if not path.endswith("/index.md")]
    assert len(slugs) == len(files) > 40
    for slug in slugs:
        assert "## When it does not" in pages[f"treatments/{slug}.md"]
        assert f"({slug}.md)" in pages["treatments/index.md"]


def test_every_command_file_has_a_page_with_its_usage(pages: dict[str, str]) -> None:
    names = [p.stem for p in (ROOT / "src/defib/cli/commands").glob("[a-z]*.py")]
    assert {"run", "diagnose", "explain", "rules", "doctor"} <= set(names)
    for name in names:
        assert f"usage: defib {name}" in pages[f"commands/{name}.md"]


def test_every_cause_has_a_section_that_says_what_it_means(pages: dict[str, str]) -> None:
    for cause in Cause:
        section = pages["causes.md"].split(f"{{#{cause.value}}}")[1].split("\n## ")[0]
        assert len(section.strip()) > 10


def test_every_error_slug_has_a_section_with_its_exit_code_and_the_way_out(pages: dict[str, str]) -> None:
    for error in descendants(DefibError):
        section = pages["errors.md"].split(f"{{#{error.slug}}}")[1].split("\n## ")[0]
        assert f"exit code {error.exit_code}." in section
        assert len(section) > 150


def test_the_advice_on_errors_is_for_errors_that_exist() -> None:
    advice = tomllib.loads((ROOT / "docs/gen/errors.toml").read_text(encoding="utf-8"))
    assert set(advice) == {error.slug for error in descendants(DefibError)}


def test_the_table_of_exit_codes_has_every_code(pages: dict[str, str]) -> None:
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", pages["errors.md"], re.MULTILINE)}
    assert table == {error.exit_code for error in descendants(DefibError)} | {0, 1, 130, 141}


def test_every_setting_and_every_limit_of_a_rule_is_on_the_settings_page(
    generator: ModuleType, pages: dict[str, str]
) -> None:
    for key in ("budget", "every", "output", "quiet", "keep_inputs", "rules"):
        assert key in pages["settings.md"]
    for rule in generator.rules():
        for limit in rule.limits:
            section = pages["settings.md"].split(f"[tool.defib.rules.{rule.slug}]")[-1]
            assert f"`{limit.name}`" in section


def test_every_experiment_file_has_a_page_and_a_line_in_the_list(pages: dict[str, str]) -> None:
    files = [p.stem for p in (ROOT / "src/defib/lab/experiments").glob("[a-z]*.py")]
    assert len(files) >= 45
    for slug in (name.replace("_", "-") for name in files):
        assert "## Prediction" in pages[f"lab/{slug}.md"]
        assert f"({slug}.md)" in pages["lab/index.md"]


def test_every_rules_page_tells_its_figures_of_the_proving_ground(
    generator: ModuleType, pages: dict[str, str]
) -> None:
    for rule in generator.rules():
        section = pages[f"rules/{rule.slug}.md"].split("## On the proving ground")[1]
        assert "Specificity:" in section or "younger than the last measurement" in section
        assert "../lab/proving-ground.md" in section
    assert "| dead-unit |" in pages["lab/proving-ground.md"]
    assert "Specificity:" in pages["rules/dead-unit.md"]


def test_no_page_fetches_anything_from_elsewhere() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in config
    written = [p.read_text(encoding="utf-8") for p in (ROOT / "docs").rglob("*.md")]
    # pictures of our own lie beside the pages
    foreign = re.compile(r"<script src|<img|!\[[^\]]*\]\((?!images/[\w-]+\.png\))|extra_javascript")
    assert not [text for text in [config, *written] if foreign.search(text)]
