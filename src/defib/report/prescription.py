"""What could help a run, for a terminal of 80 columns: each treatment ends with the command to type."""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import groupby

from defib.core.prescription import Plan, Prescription, Safety, Value
from defib.report.lines import wrapped
from defib.report.terminal import Style
from defib.report.wording import count, escaped, layer_name, shown

_MOST_LIVE = 4
_MOST_PATCHES = 2
_LONGEST_WORD = 160
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
SAFETY = {
    Safety.PRESERVES: "keeps the answers as they are",
    Safety.SETTINGS: "changes only how training goes on",
    Safety.CHANGES: "changes the answers at once",
    Safety.RESTART: "gives up what was learnt",
    Safety.SOURCE: "only the source can be changed",
}
"""What a treatment's safety means, in a person's words."""


def plan_text(plan: Plan, style: Style | None = None) -> str:
    """All findings with their first few treatments, without a newline at the end.

    Args:
        plan: What could help.
        style: How the text is dressed.

    Returns:
        Lines of at most 80 columns, commands to type excepted.
    """
    style = style or Style()
    record = str(plan.run.get("path", "") or "RUN")
    groups = [list(g) for _, g in groupby(plan.prescriptions, key=lambda p: (p.rule, p.layer, p.cause))]
    if not groups:
        why = (
            "too little was seen to judge"
            if plan.verdict == "not-observed"
            else "nothing was found that harms"
        )
        return f"defib: nothing to treat: {why}."
    lines = [f"defib: treatments for {count(len(groups), 'finding')}, the most promising first."]
    for group in groups:
        lines += ["", *_finding(group, record, _script(plan), style)]
    if any(p.safety is not Safety.SOURCE for p in plan.prescriptions):
        lines += ["", "Does it help? A controlled comparison, with a control arm and random repairs:"]
        lines += [f"  defib trial {_script(plan)}"]
    return "\n".join(lines)


def _finding(group: Sequence[Prescription], record: str, script: str, style: Style) -> Iterator[str]:
    """One finding and its treatments."""
    first = group[0]
    cause = f" ({first.cause.value})" if first.cause is not None else ""
    yield from _wrapped(style.paint(first.rule, "1;33"), f" in {layer_name(first.layer)}{cause}", "", "  ")
    yield from _wrapped("", shown(first.message, 400), "  ", "  ")
    live = [p for p in group if p.safety is not Safety.SOURCE]
    for number, each in enumerate(live[:_MOST_LIVE], start=1):
        yield from _treatment(number, each, record, script, style)
    hidden = len(live) - _MOST_LIVE
    if hidden > 0:
        yield f"  and {count(hidden, 'more treatment')}: --json"
    patches = {p.patch: p for p in reversed(group) if p.patch}
    for patch, each in list(reversed(patches.items()))[:_MOST_PATCHES]:
        yield f"  {each.treatment}, in the source:"
        yield from _wrapped("", patch, "    ", "    ")


def _treatment(number: int, each: Prescription, record: str, script: str, style: Style) -> Iterator[str]:
    """One treatment: what, why, and the command."""
    name = f"  {number}. {style.paint(each.treatment, '1')}"
    yield from _wrapped(name, f": {each.reason}", "", "     ")
    yield from _wrapped(
        "", f"{SAFETY[each.safety]}; strength {each.strength:g}{_amounts(each)}", "     ", "     "
    )
    yield f"     {command(each, record, script)}"


def command(each: Prescription, record: str, script: str) -> str:
    """What to type for one treatment.

    Args:
        each: The treatment.
        record: The run that it was prescribed for.
        script: The script as it is typed.

    Returns:
        One line.
    """
    order, at = word(each), f" --treat-at {each.at}" if each.at else ""
    if len(order) <= _LONGEST_WORD:
        return f"defib run --treat {shlex.quote(order)}{at} {script}"
    path = shlex.quote(escaped(record))
    only = f"defib prescribe {path} --json --only {each.treatment} > plan.json"
    return f"{only} && defib run --treat @plan.json{at} {script}"


def word(each: Prescription) -> str:
    """A treatment and its dose in one word, as ``--treat`` takes it."""
    parts = [f"{name}={_written(value)}" for name, value in each.dose.items() if value != ()]
    return each.treatment + (":" + ",".join(parts) if parts else "")


def _written(value: Value) -> str:
    if isinstance(value, str):
        return json.dumps(value) if _reads_as_data(value) else value
    return json.dumps(list(value) if isinstance(value, tuple) else value, separators=(",", ":"))


def _reads_as_data(text: str) -> bool:
    """A layer called "0" would come back as a number."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _amounts(each: Prescription) -> str:
    """The dose, long lists by their length."""
    parts = [
        f"{name} {len(value)} values"
        if isinstance(value, tuple) and len(value) > 6
        else f"{name} {_written(value)}"
        for name, value in each.dose.items()
        if value != ()
    ]
    return "; " + ", ".join(parts) if parts else ""


def _script(plan: Plan) -> str:
    """The script of the run as it is typed."""
    target = str(plan.run.get("target") or "")
    if not target or target.startswith("-"):
        return "train.py"
    is_file = target.endswith(".py") or "/" in target
    arguments = plan.run.get("arguments")
    rest = [shlex.quote(str(a)) for a in arguments] if isinstance(arguments, (list, tuple)) else []
    return " ".join([("" if is_file else "-m ") + shlex.quote(escaped(target)), *map(escaped, rest)])


def _wrapped(painted: str, text: str, first: str, rest: str) -> list[str]:
    """Text behind a word that may be coloured, within 80 columns as they are seen."""
    plain = _COLOUR.sub("", painted)
    head, *others = wrapped(plain + text, first, rest)
    return [head.replace(plain, painted, 1), *others]
