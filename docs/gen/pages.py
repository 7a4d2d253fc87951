"""Pages that are written from the code: commands, rules, treatments, the lab, causes, settings, errors.

MkDocs loads this file as a hook; the tests load it to see that nothing lacks a
page. Nothing is written to disk.
"""

import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import defib.cli.commands as cli_commands
from defib.core import config, errors
from defib.core.catalogue import entries
from defib.core.cause import Cause
from defib.report.meaning import meaning

HERE = Path(__file__).parent
DOCS = HERE.parent
RESULTS = DOCS.parent / "bench/results"
Pages = dict[str, str]


def pages() -> Pages:
    """Every generated page: its path below ``docs`` and its Markdown."""
    return {
        **command_pages(),
        **rule_pages(),
        **treatment_pages(),
        **lab_pages(),
        "causes.md": causes_page(),
        "settings.md": settings_page(),
        "errors.md": errors_page(),
    }


# ------------------------------------------------------------------ commands


def commands() -> tuple[str, ...]:
    """Every subcommand by name: a command is a file."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(cli_commands.__path__)))


@cache
def command_pages() -> Pages:
    """One page a subcommand: its help, as the terminal shows it."""
    found = {}
    for name in commands():
        words = [sys.executable, "-m", "defib", name, "--help"]
        environment = {**os.environ, "COLUMNS": "80"}
        text = subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout
        found[f"commands/{name}.md"] = f"# defib {name}\n\n```text\n{text.rstrip()}\n```\n"
    return found


# ------------------------------------------------------------------ rules


def rules() -> tuple[type[Any], ...]:
    """The rules in our own folder."""
    base: type[Any] = importlib.import_module("defib.diagnosis.rule").Rule
    return entries(base, "defib.diagnosis.rules")


def rule_pages() -> Pages:
    """One page a rule, from the docstring of its file, and a list of them."""
    table = ["# Rules", "", "| rule | fault | in one line |", "|---|---|---|"]
    found = {}
    for rule in rules():
        text = inspect.cleandoc(sys.modules[rule.__module__].__doc__ or "")
        found[f"rules/{rule.slug}.md"] = _rule_page(rule, text)
        table.append(f"| [{rule.slug}]({rule.slug}.md) | `{rule.fault}` | {rule.title} |")
    return {"rules/index.md": "\n".join(table) + "\n", **found}


def _rule_page(rule: type[Any], text: str) -> str:
    """Title, page, limits."""
    lines = [f"# {rule.slug}", "", f"Fault: `{rule.fault}`", "", _headed(text), "", "## Limits", ""]
    lines += _limits(rule) or ["This rule has no limit to set."]
    proven = importlib.import_module("defib.report.proven").sentences(rule.slug)
    if proven:
        lines += ["", "## On the proving ground", "", *(f"- {sentence}" for sentence in proven), ""]
        lines += ["[The whole scoreboard](../lab/proving-ground.md)"]
    return "\n".join(lines) + "\n"


def _headed(text: str) -> str:
    """A rule's docstring as Markdown: its headings become headings, ``::`` blocks code blocks."""
    headings = importlib.import_module("defib.diagnosis.rule").HEADINGS
    shown: list[str] = []
    for line in text.splitlines():
        underline = len(line) > 2 and set(line) <= {"-", "=", "~"}
        if underline and shown and shown[-1].startswith("## "):
            continue
        words = line.strip("# ").rstrip(":")
        shown.append(f"## {words}" if words in headings and not line.startswith(" ") else line)
    return re.sub(r"::\n\n(?=    )", ":\n\n", "\n".join(shown)).replace("``", "`")


def _limits(rule: type[Any]) -> list[str]:
    """A rule's limits as a table; empty if it has none."""
    if not rule.limits:
        return []
    rows = [
        f"| `{limit.name}` | {limit.default} | {limit.unit} | {limit.meaning} | {limit.reason} |"
        for limit in rule.limits
    ]
    return ["| limit | default | unit | compared with | why this default |", "|---|---|---|---|---|", *rows]


# ------------------------------------------------------------------ treatments


def treatment_pages() -> Pages:
    """One page a treatment, from the docstring of its file, and a list of them."""
    table = ["# Treatments", "", "How to give one is told on [its own page](../repair.md).", ""]
    table += ["| treatment | safety | indicated for |", "|---|---|---|"]
    found = {}
    engine: Any = importlib.import_module("defib.therapy.engine")
    base: type[Any] = importlib.import_module("defib.therapy.treatment").Treatment
    for cls in sorted(entries(base, engine.PACKAGE), key=lambda cls: (cls.safety.rank, cls.slug)):
        rules = sorted({i.rule for i in cls.indications})
        links = ", ".join(f"[{rule}](../rules/{rule}.md)" for rule in rules) or "none: by hand"
        table.append(f"| [{cls.slug}]({cls.slug}.md) | {cls.safety} | {links} |")
        found[f"treatments/{cls.slug}.md"] = _treatment_page(cls, links)
    return {"treatments/index.md": "\n".join(table) + "\n", **found}


def _treatment_page(cls: type[Any], links: str) -> str:
    """Title, page, indications."""
    text = inspect.cleandoc(sys.modules[cls.__module__].__doc__ or "")
    shown = []
    for line in text.splitlines():
        heading = line.endswith(":") and not line.startswith(" ")
        shown.append(f"## {line[:-1]}\n" if heading else line.removeprefix("    "))
    lines = [f"# {cls.slug}", "", f"Safety: `{cls.safety}`. Indicated for: {links}.", "", *shown]
    why = [f"- {i.rule}{_causes(i)}: {i.why} (strength {i.strength:g})" for i in cls.indications]
    return "\n".join(lines + (["", "## Why", "", *why] if why else [])).replace("``", "`") + "\n"


def _causes(indication: Any) -> str:
    """The causes that an indication is limited to."""
    return f" ({', '.join(c.value for c in indication.causes)})" if indication.causes else ""


# ------------------------------------------------------------------ the lab


_LAB_SHOTS = """
## How the page looks

| the claims | one experiment, on a phone |
|---|---|
| ![Claims with verdicts and figures](../images/lab-claims-light.png) | \
![An experiment in dark colours](../images/lab-experiment-phone-dark.png) |
"""


@cache
def lab_pages() -> Pages:
    """The claims, a page an experiment, and the proving ground, from what was measured and stored."""
    lab: Any = importlib.import_module("defib.lab.markdown")
    index: Any = importlib.import_module("defib.lab.index")
    told = lab.pages(_lab_results(), index.claims(), index.experiments())
    told["index.md"] += _LAB_SHOTS
    ground = RESULTS / "lab_scoreboard.md"
    if ground.exists():
        told["proving-ground.md"] = ground.read_text(encoding="utf-8")
    return {f"lab/{path}": text for path, text in told.items()}


@cache
def lab_report() -> str:
    """The lab as one page that needs no network; "" where nothing was measured."""
    page: Any = importlib.import_module("defib.lab.page")
    index: Any = importlib.import_module("defib.lab.index")
    found = _lab_results()
    return page.page(found, index.claims(), index.experiments()) if found else ""


def _lab_results() -> Any:
    return importlib.import_module("defib.lab.result").results(RESULTS / "lab")


# ------------------------------------------------------------------ causes, settings, errors


def causes_page() -> str:
    """Every cause that a finding can name."""
    lines = ["# Causes", "", "Why a finding came about: the values of `cause`.", ""]
    for cause in Cause:
        lines += [f"## {cause.value} {{#{cause.value}}}", "", meaning(cause), ""]
    return "\n".join(lines)


def settings_page() -> str:
    """The docstring of ``core.config``, and every rule's limits."""
    title, _, rest = inspect.cleandoc(config.__doc__ or "").partition("\n")
    lines = [
        "# Settings",
        "",
        title,
        rest.replace("::", "```toml", 1).replace("\n``DEFIB", "\n```\n\n``DEFIB", 1),
    ]
    lines = ["\n".join(lines).replace("\n    ", "\n"), "", "## Limits of the rules", ""]
    for rule in rules():
        table = _limits(rule)
        if table:
            lines += [f"### [tool.defib.rules.{rule.slug}]", "", *table, ""]
    return "\n".join(lines) + "\n"


def error_classes() -> tuple[type[errors.DefibError], ...]:
    """Every exception of ``core.errors`` in the order of the file."""
    members = vars(errors).values()
    return tuple(m for m in members if isinstance(m, type) and issubclass(m, errors.DefibError))


def errors_page() -> str:
    """Exit codes, the tree of exceptions, and for each one what to do."""
    advice = tomllib.loads((HERE / "errors.toml").read_text(encoding="utf-8"))
    lines = [(HERE / "errors-head.md").read_text(encoding="utf-8"), "## The tree", "", "```text"]
    lines += [line[4:] for line in (errors.__doc__ or "").splitlines() if line.startswith("    ")]
    lines += ["```", ""]
    for error in error_classes():
        lines += [f"## {error.slug} {{#{error.slug}}}", ""]
        lines += [f"`{error.__name__}`, exit code {error.exit_code}. {inspect.getdoc(error)}", ""]
        lines += [advice[error.slug]["then"], ""]
    return "\n".join(lines)


# ------------------------------------------------------------------ MkDocs


def decisions() -> list[str]:
    """The written decisions, oldest first."""
    return sorted(f"decisions/{path.name}" for path in (DOCS / "decisions").glob("*.md"))


def on_config(config: Any) -> Any:
    """Fills the parts of the navigation that are lists of generated pages."""
    lists = {
        "Commands": sorted(command_pages()),
        "Rules": list(rule_pages()),
        "Treatments": list(treatment_pages()),
        "The lab": list(lab_pages()),
        "Decisions": decisions(),
    }
    config.nav = [{t: lists.get(t, to) for t, to in item.items()} for item in config.nav]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    if lab_report():
        files.append(File.generated(config, "lab/report.html", content=lab_report()))
    return files
