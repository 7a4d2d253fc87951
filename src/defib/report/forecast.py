"""Prognoses as text, at most 80 columns wide."""

from collections.abc import Iterator, Sequence

from defib.core.prognosis import Forecast, Outlook, Prognosis, Recovery
from defib.report.lines import wrapped
from defib.report.terminal import Style
from defib.report.wording import count, layer_name, number, shown, units_of

_MOST_LAYERS = 40
_MOST_ASSUMED = 6
_INDENT = " " * 10
_COLOURS = {
    Outlook.RETURNS: "1;32",
    Outlook.NEVER: "1;31",
    Outlook.UPSTREAM: "36",
    Outlook.BEYOND: "1;33",
    Outlook.UNKNOWN: "1;33",
}
_WORDS = {
    Outlook.RETURNS: "come back",
    Outlook.NEVER: "never come back",
    Outlook.UPSTREAM: "depend on the layers that feed them",
    Outlook.BEYOND: "stay silent as far as was looked",
    Outlook.UNKNOWN: "cannot be foretold",
}


def forecast_text(forecast: Forecast, style: Style | None = None) -> str:
    """The whole block, without a newline at its end."""
    style = style or Style()
    lines = [*_head(forecast)]
    paths = list(dict.fromkeys(p.path for p in forecast.prognoses))
    recoveries = {recovery.path: recovery for recovery in forecast.recoveries}
    for path in paths[:_MOST_LAYERS]:
        lines += ["", layer_name(path, width=72)]
        for prognosis in forecast.prognoses:
            if prognosis.path == path:
                lines += _prognosis(prognosis, style)
        if path in recoveries:
            lines += _wrap(f"so far    {recovery_sentence(recoveries[path])}")
    if len(paths) > _MOST_LAYERS:
        lines += ["", f"and {count(len(paths) - _MOST_LAYERS, 'more layer')}: see --json"]
    lines += _foot(forecast)
    return "\n".join(lines)


def prognosis_lines(prognoses: Sequence[Prognosis]) -> Iterator[str]:
    """One sentence for each group of a finding's units, to stand below the finding."""
    for prognosis in prognoses:
        who = count(len(prognosis.units), "unit")
        yield f"{who} {_verb(prognosis)}{_when(prognosis)}: {shown(prognosis.reason, 300)}"


def recovery_sentence(recovery: Recovery) -> str:
    """How often units of a layer came back in this run."""
    silences = f"{count(recovery.episodes, 'silence')} of this layer's units"
    interval = f"95 % interval {recovery.low:.0%} to {recovery.high:.0%}"
    said = f"{number(recovery.returned)} of {silences} ended in this run"
    return f"{said}; within {recovery.within} steps {recovery.share:.0%} do ({interval})"


def _head(forecast: Forecast) -> Iterator[str]:
    """The answer in one sentence."""
    facts = forecast.facts
    dead = int(facts.get("dead_units", 0))
    if not dead:
        where = f"on {count(facts['samples'], 'sample')}" if "samples" in facts else "in this run's diagnosis"
        yield from _wrap(f"defib: no dead units {where}: there is nothing to foretell.", "  ")
        return
    totals = {
        outlook: sum(len(p.units) for p in forecast.prognoses if p.outlook is outlook) for outlook in Outlook
    }
    parts = [f"{n:,} {_WORDS[outlook]}" for outlook, n in totals.items() if n]
    yield from _wrap(f"defib: of {count(dead, 'dead unit')}, {', '.join(parts)}.", "  ")


def _prognosis(prognosis: Prognosis, style: Style) -> Iterator[str]:
    """Who, when, why, and on how many samples."""
    word = prognosis.outlook.value.replace("-", " ")
    who = _numbered(prognosis.units)
    first, *rest = _wrap(f"  {word}{_when(prognosis)}: {who}", "    ")
    yield first.replace(word, style.paint(word, _COLOURS[prognosis.outlook]), 1)
    yield from rest
    yield from _wrap(f"why       {shown(prognosis.reason, 400)}")
    if prognosis.outlook is not Outlook.UNKNOWN:
        rests = f"{count(prognosis.samples, 'sample')}, the optimiser as of step {prognosis.as_of:,}"
        sure = "exact for those" if prognosis.exact else "an estimate"
        yield from _wrap(f"rests on  {rests}; {sure}")
    for evidence in prognosis.evidence:
        value = number(evidence.value) if not isinstance(evidence.value, str) else evidence.value
        unit = "" if evidence.unit in {"", "1"} else f" {evidence.unit}"
        yield from _wrap(f"          {evidence.name}: {value}{unit}", _INDENT + "  ")


def _numbered(units: Sequence[int]) -> str:
    """Unit 3; units 1, 5, 9."""
    listed = units_of(tuple(units), 0)
    return f"unit {units[0]}" if len(units) == 1 else listed.replace(" of 0 units: ", " units: ")


def _when(prognosis: Prognosis) -> str:
    """At which steps, if it is known."""
    if not prognosis.steps:
        return ""
    low, high = min(prognosis.steps), max(prognosis.steps)
    return f" at step {low:,}" if low == high else f" at steps {low:,} to {high:,}"


def _verb(prognosis: Prognosis) -> str:
    """What it or they will do."""
    word = _WORDS[prognosis.outlook]
    if len(prognosis.units) != 1:
        return word
    single = {"come": "comes", "never come": "never comes", "depend": "depends", "stay": "stays"}
    for plural, other in single.items():
        if word.startswith(plural):
            return word.replace(plural, other, 1).replace("feed them", "feed it")
    return word


def _foot(forecast: Forecast) -> Iterator[str]:
    """What is taken for granted, and what was not seen."""
    if forecast.prognoses and forecast.assumed:
        yield ""
        for assumed in forecast.assumed[:_MOST_ASSUMED]:
            yield from _wrap(f"assumed   {shown(assumed, 200)}")
    if forecast.unseen:
        yield ""
    for each in forecast.unseen:
        yield from _wrap(f"not seen  {layer_name(each.what)}: {shown(each.why, 200)}")


def _wrap(text: str, indent: str = _INDENT) -> Iterator[str]:
    """Lines of at most 80 columns."""
    yield from wrapped(text, rest=indent)
