"""A trial's verdict for a terminal of 80 columns."""

import shlex

from defib.core.trial import Verdict
from defib.report.lines import wrapped
from defib.report.terminal import Style
from defib.report.wording import escaped, shown

_COLOURS = {"better": "1;32", "worse": "1;31", "undecided": "33", "stopped": "33", "refused": "33"}


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
        first, *rest = wrapped(f"  {each.answer:<10}{shown(each.arm, 120)}{score}", rest=" " * 12)
        lines += [first.replace(each.answer, style.paint(each.answer, _COLOURS[each.answer]), 1), *rest]
        if len(each.course) > 1:
            lines += _wrapped(f"{', then '.join(shown(word, 160) for word in each.course)}:", indent=12)
        lines += _wrapped(each.why, indent=12)
    if not verdict.comparisons:
        lines += _wrapped("No treatment can be given to the running network.", indent=2)
    lines += ["", *_wrapped(_cost(verdict))]
    for patch in verdict.patches:
        lines += ["", "Only the source can be changed for:"]
        for line in patch.splitlines():
            lines += wrapped(line, "    ", "      ")
    return "\n".join(lines)


def _cost(verdict: Verdict) -> str:
    """What the search cost, and what the proof cost on top of it, both in untreated runs."""
    total = (
        f"all runs together {verdict.cost_cpu:.1f} times its CPU time ({verdict.cost_steps:.1f} its steps)"
    )
    if not verdict.comparisons:
        return f"Compared with one run without treatment: {total}."
    return (
        f"To find a treatment and train with it once took {verdict.extra_cpu:.2f} times the CPU time of the "
        f"run without treatment ({verdict.extra_steps:.2f} times its steps); {total}: seeds, control and "
        "random repairs are the price of the proof."
    )


def _headline(verdict: Verdict, style: Style) -> str:
    if verdict.best:
        course = next((c.course for c in verdict.comparisons if c.arm == verdict.best), ())
        words = " ".join(f"--treat {shlex.quote(word)}" for word in course or (verdict.best,))
        said = f"{verdict.best} helps: defib run {words} {verdict.script}"
        return style.paint(escaped(said), "1;32")
    return style.paint("No treatment was shown to help.", "1;33")


def _wrapped(text: str, indent: int = 0) -> list[str]:
    blank = " " * indent
    return wrapped(text, blank, blank)
