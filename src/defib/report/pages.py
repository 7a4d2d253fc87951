"""Pages that ``defib explain`` prints: rules, causes and errors, each from its own docstring."""

import difflib
import inspect
from collections.abc import Iterator, Mapping

from defib.core.errors import DefibError, NotFound
from defib.core.finding import Cause
from defib.report.meaning import meaning
from defib.report.wording import escaped


def page(slug: str, rules: Mapping[str, str]) -> str:
    """The page of a rule, a cause or an error.

    Args:
        slug: What is asked for ("dead-unit", "born-dead", "record-damaged").
        rules: For each rule's slug, its page (the docstring of its module).

    Returns:
        Text of several lines, without a newline at its end.

    Raises:
        NotFound: If nothing has that slug; the message names what is near.
    """
    errors = {error.slug: error for error in error_classes()}
    causes = {cause.value: cause for cause in Cause}
    if slug in rules:
        return f"rule {slug}\n\n{inspect.cleandoc(rules[slug]).strip()}"
    if slug in causes:
        return _cause_page(causes[slug], rules)
    if slug in errors:
        return _error_page(errors[slug])
    known = [*rules, *causes, *errors]
    wanted = slug.lower().replace("_", "-").replace(" ", "-")
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    near = near or [each for each in known if len(wanted) > 2 and wanted in each][:3]
    hint = f"did you mean {', '.join(near)}?" if near else "`defib rules` lists the rules"
    raise NotFound(f"no page named {escaped(slug[:80])!s}; {hint}")


def error_classes() -> tuple[type[DefibError], ...]:
    """Every error in the tree, parents before children, one for each slug."""
    return tuple({error.slug: error for error in reversed([*_tree(DefibError)])}.values())[::-1]


def _tree(error: type[DefibError]) -> Iterator[type[DefibError]]:
    """An error and everything below it, depth first."""
    yield error
    for child in error.__subclasses__():
        yield from _tree(child)


def _cause_page(cause: Cause, rules: Mapping[str, str]) -> str:
    """What a cause means, and the rules that can name it."""
    naming = [slug for slug, text in rules.items() if cause.value in text]
    lines = [f"cause {cause.value}", "", meaning(cause)]
    if naming:
        lines += ["", "Named by:", *(f"  defib explain {slug}" for slug in naming)]
    return "\n".join(lines)


def _error_page(error: type[DefibError]) -> str:
    """What an error means and the exit code that goes with it."""
    text = inspect.getdoc(error) or ""
    return f"error {error.slug}\n\n{text}\n\nExit code: {error.exit_code}"
