"""Two runs side by side as one block of text, at most 80 columns wide."""

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

from defib.core.comparison import Curve, CurveChange, FindingChange, RunComparison, SettingChange, Side, State
from defib.core.diagnosis import Verdict
from defib.core.finding import Severity
from defib.core.trial import Goal
from defib.report.lines import labelled, wrapped
from defib.report.terminal import Style
from defib.report.text import treated_lines
from defib.report.wording import columns, count, layer_name, number, shown

_MOST_FINDINGS = 12
_MOST_CURVES = 8
_MOST_SETTINGS = 16
_NAME = 26
_WORDS = {State.GONE: "gone", State.NEW: "new", State.NOT_JUDGED: "unjudged", State.SAME: "same"}
_COLOURS = {
    State.GONE: "1;32",
    State.NEW: "1;31",
    State.NOT_JUDGED: "1;33",
    State.SAME: "36",
    Verdict.HEALTHY: "1;32",
    Verdict.SICK: "1;31",
    Verdict.NOT_OBSERVED: "1;33",
}


def comparison_text(comparison: RunComparison, style: Style | None = None) -> str:
    """The whole block, without a newline at its end."""
    style = style or Style()
    lines = [*wrapped(f"defib: {comparison.sentence}.", "", "  "), ""]
    lines += _side("A", comparison.before, style)
    lines += _side("B", comparison.after, style)
    for state in State:
        lines += _findings(state, comparison.of(state), style)
    if comparison.treated:
        lines += ["", *treated_lines(comparison.treated)]
    if comparison.curves:
        lines += ["", *_curves(comparison.curves)]
    if comparison.settings:
        lines += ["", *_settings(comparison.settings)]
    if comparison.notes:
        lines += [""]
    for note in comparison.notes:
        lines += labelled("note", note)
    return "\n".join(lines)


def _side(letter: str, side: Side, style: Style) -> Iterator[str]:
    """One run: verdict, length, where it is."""
    word = side.verdict.value.replace("-", " ")
    steps = count(side.steps, "step")
    steps += f" from step {side.first:,} on" if side.first else ""
    found = f"{count(side.troubles, 'cause')} of trouble, {count(side.notes, 'note')}"
    end = f", {shown(side.status, 30)}" if side.status not in {"", "finished"} else ""
    first, *rest = labelled(letter, f"{word}: {found}, {steps}{end}")
    yield first.replace(word, style.paint(word, _COLOURS[side.verdict]), 1)
    yield from rest
    if side.path:
        near = os.path.relpath(side.path)
        yield from labelled("", shown(side.path if near.startswith("..") else near, 69))


def _findings(state: State, changes: Sequence[FindingChange], style: Style) -> Iterator[str]:
    """Findings in one state; consequences of others are only counted where there are many."""
    own = [c for c in changes if not c.explained]
    if not changes:
        return
    yield ""
    for change in own[:_MOST_FINDINGS]:
        yield from _finding(change, style)
    word = _WORDS[state]
    if len(own) > _MOST_FINDINGS:
        yield from labelled("", f"and {count(len(own) - _MOST_FINDINGS, 'more finding')} {word}: see --json")
    effects = [c for c in changes if c.explained]
    if effects:
        names = list(dict.fromkeys(shown(c.rule, 30) for c in effects))
        more = f" and {len(names) - 5} others" if len(names) > 5 else ""
        said = f"as consequences of others: {len(effects)} ({', '.join(names[:5])}{more})"
        yield from labelled("" if own else word, said)


def _finding(change: FindingChange, style: Style) -> Iterator[str]:
    """What it is, and what became of it."""
    word = _WORDS[change.state]
    where = f"{shown(change.rule, 30)} in {layer_name(change.layer, change.call)} ({change.cause.value})"
    parts = [part for part in (_severity(change), _units(change), _since(change)) if part]
    first, *rest = labelled(word, where + (f": {', '.join(parts)}" if parts else ""))
    yield first.replace(word, style.paint(word, _COLOURS[change.state]), 1)
    yield from rest
    if change.state in {State.NEW, State.GONE} and change.severity is not Severity.INFO:
        yield from labelled("", shown(change.message, 300))
    if change.state is State.GONE and change.treated:
        yield from labelled("", f"gone after treatment: {', '.join(change.treated)}")
    if change.why:
        where = "A" if change.before is None else "B"
        yield from labelled("", f"not judged in {where}: {shown(change.why, 200)}")


def _severity(change: FindingChange) -> str:
    """How severe, and from what to what."""
    old, new = change.before, change.after
    if old is None or new is None or old is new:
        there = new or old
        return "" if there is None else there.value
    return f"{old.value} before, {new.value} now"


def _units(change: FindingChange) -> str:
    old, new = change.units_before, change.units_after
    if not old and not new:
        return ""
    if change.state is not State.SAME or old == new:
        return count(old or new, "unit")
    return f"{old:,} units before, {count(new, 'unit')} now"


def _since(change: FindingChange) -> str:
    since = change.since_after if change.after is not None else change.since_before
    return "" if since is None else f"since step {since:,}"


def _curves(curves: Sequence[CurveChange]) -> Iterator[str]:
    """A table: at the end and at its best, in both runs."""
    yield _row("", ("A first", "A last", "A best", "B first", "B last", "B best"))
    for each in curves[:_MOST_CURVES]:
        cells = (*_cells(each.before), *_cells(each.after))
        yield _row(shown(each.name, _NAME - 1), cells)
    if len(curves) > _MOST_CURVES:
        yield f"and {count(len(curves) - _MOST_CURVES, 'more curve')}: see --json"
    for each in curves[:_MOST_CURVES]:
        yield from _reached(each)


def _cells(curve: Curve | None) -> tuple[str, str, str]:
    if curve is None:
        return "-", "-", "-"
    return _short(curve.first), _short(curve.last), _short(curve.best)


def _short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}"


def _reached(each: CurveChange) -> Iterator[str]:
    """Where the second run was as good as the first at its best, and numbers that are none."""
    old, new = each.before, each.after
    name = shown(each.name, 40)
    if each.goal is not None and old is not None and new is not None and not math.isnan(old.best):
        way = "lowest" if each.goal is Goal.LOWER else "highest"
        best = f"A's {way} {name} is {number(old.best)}, at step {old.best_step:,}"
        came = "B never came there" if each.reached is None else f"B came there at step {each.reached:,}"
        yield from labelled("", f"{best}; {came}")
    for letter, curve in (("A", old), ("B", new)):
        if curve is not None and curve.nonfinite:
            yield from labelled("", f"{name}: {count(curve.nonfinite, 'number')} of {letter} NaN or infinite")


def _settings(settings: Sequence[SettingChange]) -> Iterator[str]:
    """What differs, one a line."""
    label = "differs"
    for each in settings[:_MOST_SETTINGS]:
        what = _setting_of(each.what)
        said = f"{what}, {shown(each.name, 30)}: {_value(each.before)} in A, {_value(each.after)} in B"
        yield from labelled(label, said)
        label = ""
    if len(settings) > _MOST_SETTINGS:
        yield from labelled("", f"and {count(len(settings) - _MOST_SETTINGS, 'more setting')}: see --json")


def _setting_of(what: str) -> str:
    """Whose setting; a long layer name is shortened."""
    kind, space, path = what.partition(" ")
    return f"layer {shown(path, 36)}" if kind == "layer" and space else shown(what, 40)


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return number(value) if isinstance(value, (int, float)) else shown(str(value), 60)


def _row(name: str, cells: Sequence[str]) -> str:
    """A name of fixed width and right-aligned cells."""
    padding = " " * max(_NAME - columns(name), 0)
    return (name + padding + "".join(f"{c:>9}" for c in cells)).rstrip()
