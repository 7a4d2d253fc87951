"""A trial's verdict for a terminal of 80 columns."""

import textwrap

from defib.core.trial import Verdict
from defib.report.terminal import Style
from defib.report.wording import escaped

_COLOURS = {"better": "1;32", "worse": "1;31", "undecided": "33", "refused": "33"}


def trial_text(verdict: Verdict, style: Style) -> str:
    """The answer, then each arm with its interval, then what only the source could change.

    Args:
        verdict: What a trial found.
        style: How to dress it.

    Returns:
        Lines of at most 80 columns.
    """
    lines = [_headline(verdict, style), ""]
    lines += _wrapped(f"Without treatment: {verdict.diagnosis}")
    lines += _wrapped(f"Measured by {verdict.measure}, {verdict.goal} is better.")
    lines.append("")
    for each in verdict.comparisons:
        score = "" if each.score is None else f"  median {each.score:.4g}"
        lines.append(
            f"  {style.paint(f'{each.answer:<10}', _COLOURS[each.answer])}{escaped(each.arm)}{score}"
        )
        lines += _wrapped(each.why, indent=12)
    if not verdict.comparisons:
        lines += _wrapped("No treatment can be given to the running network.", indent=2)
    lines += ["", *_wrapped(f"All runs together took {verdict.cost:.1f} times as long as one plain run.")]
    for patch in verdict.patches:
        lines += ["", "Only the source can be changed for:", textwrap.indent(escaped(patch), "    ")]
    return "\n".join(lines)


def _headline(verdict: Verdict, style: Style) -> str:
    if verdict.best:
        said = f"{verdict.best} helps: defib run --treat {verdict.best} {verdict.script}"
        return style.paint(escaped(said), "1;32")
    return style.paint("No treatment was shown to help.", "1;33")


def _wrapped(text: str, indent: int = 0) -> list[str]:
    blank = " " * indent
    return textwrap.wrap(escaped(text), 80, initial_indent=blank, subsequent_indent=blank)
