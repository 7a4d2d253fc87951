"""Pages that ``defib explain`` prints: rules, causes and errors, each from its own docstring."""

import difflib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from defib.core.cause import Cause
from defib.core.errors import DefibError, NotFound
from defib.report.lines import WIDTH
from defib.report.meaning import meaning
from defib.report.proven import sentences
from defib.report.wording import escaped, quantity


@dataclass(frozen=True, kw_only=True)
class LimitLine:
    """One number that a rule compares with.

    Attributes:
        name: As it is written in the settings.
        value: Its default.
        unit: Its unit; "1" for a ratio.
        meaning: What is compared with it.
        reason: Why the default is what it is.
    """

    name: str
    value: float
    unit: str
    meaning: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class RulePage:
    """What a rule says about itself.

    Attributes:
        text: The docstring of its module.
        causes: The causes that it can name.
        limits: The numbers that it compares with.
    """

    text: str
    causes: tuple[Cause, ...] = ()
    limits: tuple[LimitLine, ...] = ()


def page(
    slug: str,
    rules: Mapping[str, RulePage],
    treatments: Mapping[str, str] | None = None,
    others: Callable[[], Iterable[str]] = tuple,
) -> str:
    """The page of a rule, a cause, a treatment or an error.

    Args:
        slug: What is asked for ("dead-unit", "born-dead", "leaky-relu", "record-damaged").
        rules: The rules by slug.
        treatments: The docstrings of treatments by slug.
        others: Names that have a page elsewhere; asked for only where something else was meant.

    Returns:
        Text of several lines, without a newline at its end.

    Raises:
        NotFound: If nothing has that slug; the message names what is near.
    """
    errors = {error.slug: error for error in error_classes()}
    causes = {cause.value: cause for cause in Cause}
    if slug in rules:
        return _rule_page(slug, rules[slug])
    if slug in causes:
        return _cause_page(causes[slug], rules)
    if slug in errors:
        return _error_page(errors[slug])
    treatments = treatments or {}
    if slug in treatments:
        return f"treatment {slug}\n\n{_indented(treatments[slug])}"
    near = _near(slug, (*rules, *causes, *treatments, *errors, *others()))
    hint = (
        f"did you mean {', '.join(near)}?"
        if near
        else "`defib rules` lists the rules, `defib treatments` the treatments, `defib lab` the experiments"
    )
    name = escaped(slug[:80]) or "''"
    raise NotFound(f"no page named {name}; {hint}")


def _near(slug: str, known: Iterable[str]) -> list[str]:
    """At most three names that may have been meant: like it, or with it in them."""
    by_name = {name.lower(): name for name in known}
    wanted = slug.lower().replace("_", "-").replace(" ", "-")
    near = difflib.get_close_matches(wanted, by_name, n=3, cutoff=0.6)
    near += [name for name in by_name if len(wanted) > 2 and wanted in name and name not in near]
    return [by_name[name] for name in near[:3]]


def error_classes() -> tuple[type[DefibError], ...]:
    """Every error in the tree, parents before children, one for each slug."""
    return tuple({error.slug: error for error in reversed([*_tree(DefibError)])}.values())[::-1]


def _tree(error: type[DefibError]) -> Iterator[type[DefibError]]:
    """An error and everything below it, depth first."""
    yield error
    for child in error.__subclasses__():
        yield from _tree(child)


def _rule_page(slug: str, rule: RulePage) -> str:
    """A rule's own page, and the limits that a user can set."""
    lines = [f"rule {slug}", "", reflowed(inspect.cleandoc(rule.text).strip())]
    if rule.limits:
        lines += ["", f"Limits, set in pyproject.toml under [tool.defib.rules.{slug}]", ""]
    for limit in rule.limits:
        lines.append(f"    {limit.name} = {quantity(limit.value, limit.unit)}")
        for words in (f"{limit.meaning}.", f"Why: {limit.reason}."):
            lines += textwrap.wrap(words, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)
    proven = sentences(slug)
    if proven:
        lines += ["", "On the proving ground", ""]
    for sentence in proven:
        lines += textwrap.wrap(sentence, WIDTH, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def _indented(text: str) -> str:
    """A treatment's docstring, whose paragraphs stand indented below their headings."""
    lines: list[str] = []
    for block in inspect.cleandoc(text).split("\n\n"):
        head, _, body = block.partition("\n")
        if body and head.endswith(":"):
            words = " ".join(body.split())
            lines += ["", head, *textwrap.wrap(words, WIDTH, initial_indent="  ", subsequent_indent="  ")]
        else:
            lines += ["", *textwrap.wrap(" ".join(block.split()), WIDTH)]
    return "\n".join(lines[1:]).replace("``", "`")


def reflowed(markdown: str) -> str:
    """Markdown whose paragraphs and list items are broken anew to fit a terminal.

    Args:
        markdown: Text; its headings, tables and code blocks stay as they are.

    Returns:
        The same text, its prose at most 80 columns wide.
    """
    lines: list[str] = []
    prose: list[str] = []
    fenced = False
    for line in [*markdown.splitlines(), ""]:
        fence = line.lstrip().startswith("```")
        item = line.lstrip().startswith(("- ", "* "))
        kept = fenced or fence or not line.strip() or line.startswith(("#", "|", "    "))
        if (kept or item) and prose:
            deeper = "  " if prose[0].lstrip().startswith(("- ", "* ")) else ""
            lines += textwrap.wrap(" ".join(prose), WIDTH, subsequent_indent=deeper)
            prose = []
        if kept:
            lines.append(line)
        else:
            prose.append(line if item else line.strip())
        fenced ^= fence
    return "\n".join(lines).rstrip()


def _cause_page(cause: Cause, rules: Mapping[str, RulePage]) -> str:
    """What a cause means, and the rules that can name it."""
    naming = [slug for slug, rule in rules.items() if cause in rule.causes]
    lines = [f"cause {cause.value}", "", meaning(cause)]
    if naming:
        lines += ["", "Named by:", *(f"  defib explain {slug}" for slug in naming)]
    return "\n".join(lines)


def _error_page(error: type[DefibError]) -> str:
    """What an error means and the exit code that goes with it."""
    text = inspect.getdoc(error) or ""
    return f"error {error.slug}\n\n{text}\n\nExit code: {error.exit_code}"
