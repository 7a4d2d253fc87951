"""The lab in a terminal: what there is, one experiment, what was found. 80 columns."""

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from defib.lab.dials import Scale, choose, shown
from defib.lab.estimate import Verdict
from defib.lab.experiment import Experiment, Part
from defib.lab.index import Claim, page
from defib.lab.overview import HOLDS, number, printed
from defib.lab.result import Result, across
from defib.report.pages import reflowed
from defib.report.terminal import Style

WIDTH = 80
_COLOURS = {Verdict.TRUE: "32", Verdict.FALSE: "31", Verdict.PARTLY: "33", Verdict.UNDECIDED: "2"}


def listing(known: Iterable[type[Experiment[Any]]]) -> str:
    """Every experiment under its topic, a line or two each."""
    lines: list[str] = []
    topic = None
    for cls in known:
        if cls.topic != topic:
            topic = cls.topic
            lines += ["", topic.value.capitalize() if topic.value.islower() else topic.value]
        lines += textwrap.wrap(
            f"  {cls.slug:<28}  {cls.title}", WIDTH, subsequent_indent=" " * 32, drop_whitespace=True
        )
    lines += ["", "defib lab show NAME    what is claimed, predicted and done"]
    lines += ["defib lab run NAME     measure it; `run all` for everything"]
    return "\n".join(lines[1:])


def as_data(known: Iterable[type[Experiment[Any]]]) -> list[dict[str, Any]]:
    """The same for ``--json``."""
    return [
        {
            "name": cls.slug,
            "topic": cls.topic.value,
            "question": cls.title,
            "rows": list(cls.rows),
            "dials": [
                {"name": dial.name, "value": dial.value, "meaning": dial.meaning}
                for dial in shown(choose(cls.dials, Scale.SMALL, {}))
            ],
        }
        for cls in known
    ]


_UNDERLINED = re.compile(r"^(\S.*)\n-{3,}$", re.MULTILINE)
"""A heading as docstrings write it; one that begins with # keeps a line of its own in a terminal."""


def about(cls: type[Experiment[Any]], claims: Mapping[str, Claim], style: Style) -> str:
    """One experiment: question, the rows it settles, its page, its dials."""
    lines = [style.paint(cls.title, "1"), f"topic: {cls.topic}", ""]
    lines += ["It settles:"]
    lines += [line for row in cls.rows for line in _wrapped(f"{row}  {claims[row].says}", "  ", 8)]
    lines += ["", *reflowed(_UNDERLINED.sub(r"## \1", page(cls))).splitlines()]
    lines += ["", "Dials (--set name=value):"]
    for dial in shown(choose(cls.dials, Scale.SMALL, {})):
        lines += _wrapped(f"{dial.name} = {_value(dial.value)}  {dial.meaning}", "  ", 4)
    lines += ["", f"run it: defib lab run {cls.slug}"]
    return "\n".join(lines)


def claim_text(claim: Claim, testing: Iterable[type[Experiment[Any]]], style: Style) -> str:
    """One row of the list: what is claimed, what is thought of it, and what tests it."""
    lines = [style.paint(f"claim {claim.row}", "1"), "", *_wrapped(claim.says, "", 0), ""]
    judged = "an opinion: neither true nor false" if claim.judged is None else claim.judged.value
    lines += _wrapped(f"Proof and literature: {judged}.", "", 0)
    if claim.untestable:
        lines += _wrapped(f"No experiment can settle it: {claim.untestable}.", "", 0)
    commands = [f"  defib lab run {cls.slug}" for cls in testing]
    if commands:
        lines += ["", "Tested by:", *commands]
    return "\n".join(lines)


def found(results: list[Result], claims: Mapping[str, Claim], style: Style) -> str:
    """What one experiment found, over its seeds: every part, then the verdicts."""
    first = results[0]
    seeds = ", ".join(str(result.order.seed) for result in results)
    lines = [
        style.paint(first.order.slug, "1"),
        f"scale {first.order.scale}, seed{'s' * (len(results) > 1)} {seeds}, "
        f"{sum(result.seconds for result in results):.1f} s of CPU",
    ]
    for row, verdict in across(results).items():
        word = style.paint(str(verdict), _COLOURS[verdict])
        said = claims[row].says if row in claims else ""
        lines += ["", *_wrapped(f"{row}  {said}", "", 6), f"      -> {word}"]
        for part in (part for part in first.measurement.parts if part.row == row):
            lines += _part(part, style)
    if first.measurement.note:
        lines += ["", *_wrapped(first.measurement.note, "", 0)]
    return "\n".join(lines)


def summary(results: list[Result], claims: Mapping[str, Claim]) -> str:
    """One line of counts for many experiments."""
    verdicts = across(results)
    counts = {verdict: sum(v == verdict for v in verdicts.values()) for verdict in Verdict}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    opinions = sum(bool(claim.untestable) for claim in claims.values())
    return "\n".join(
        _wrapped(
            f"{len(verdicts)} of {len(claims)} claims measured: {told}; {opinions} cannot be tested.", "", 0
        )
    )


def _part(part: Part, style: Style) -> list[str]:
    mark = style.paint(f"{HOLDS[part.verdict]:<5}", _COLOURS[part.verdict])
    told = _wrapped(part.says, " " * 8, 0)
    told[0] = f"  {mark} {told[0].strip()}"
    figures = f"measured {number(part.estimate)}; claimed {part.region}"
    figures += f"; printed {printed(part)}" if printed(part) else ""
    return [*told, *_wrapped(figures, " " * 8, 0)]


def _wrapped(text: str, indent: str, hang: int) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + " " * hang) or [""]


def _value(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
