"""A diagnosis as one block of text for a terminal, at most 80 columns wide.

The verdict comes first, then the findings in their order, then what was and was
not seen, what watching cost, and where the record is.
"""

import os
import shlex
from collections.abc import Iterator

from defib.core.aftermath import Treated
from defib.core.coverage import Coverage, Overhead
from defib.core.diagnosis import Diagnosis, NotRun, Verdict
from defib.core.evidence import Evidence, Unseen
from defib.core.finding import Finding, Severity
from defib.core.sharpness import FACTS
from defib.report.forecast import prognosis_lines
from defib.report.lines import LABEL, labelled, wrapped
from defib.report.meaning import meaning
from defib.report.terminal import Style
from defib.report.wording import (
    columns,
    count,
    escaped,
    layer_name,
    number,
    percent,
    quantity,
    shown,
    units_of,
)

_MOST_FINDINGS = 10
_MOST_EVIDENCE = 14
_MOST_REASONS = 4
_MOST_TREATED = 8
_COLOURS: dict[Severity | Verdict, str] = {
    Severity.ERROR: "1;31",
    Severity.WARNING: "1;33",
    Severity.INFO: "36",
    Verdict.HEALTHY: "1;32",
    Verdict.SICK: "1;31",
    Verdict.NOT_OBSERVED: "1;33",
}


def to_text(diagnosis: Diagnosis, style: Style | None = None) -> str:
    """The whole block, without a newline at its end."""
    style = style or Style()
    record = str(diagnosis.run.get("path", ""))
    lines = [*_verdict(diagnosis, style)]
    for finding in diagnosis.findings[:_MOST_FINDINGS]:
        lines += ["", *finding_lines(finding, style)]
    hidden = len(diagnosis.findings) - _MOST_FINDINGS
    if hidden > 0:
        lines += ["", f"and {count(hidden, 'more finding')}: see --json"]
    lines += [""]
    lines += treated_lines(diagnosis.treated)
    lines += [*_rules_that_broke(diagnosis.not_run), *_coverage(diagnosis.coverage)]
    lines += _curvature(diagnosis.run.get(FACTS))
    lines += labelled("overhead", _overhead(diagnosis.overhead))
    lines += _record(record, str(diagnosis.run.get("status", "finished")), diagnosis)
    return "\n".join(lines)


def _verdict(diagnosis: Diagnosis, style: Style) -> Iterator[str]:
    """The answer in one sentence."""
    found = [f for f in diagnosis.findings if f.severity != Severity.INFO]
    notes = len(diagnosis.findings) - len(found)
    if diagnosis.verdict == Verdict.SICK:
        sentence = f"{count(len(found), 'cause')} of trouble found"
        if found:
            sentence += f", the first in {layer_name(found[0].layer, found[0].call)} ({found[0].rule})"
    elif diagnosis.verdict == Verdict.HEALTHY:
        sentence = "nothing found that keeps it from learning"
    else:
        sentence = "too little was seen to judge; this is not a clean bill of health"
    if notes:
        sentence += f"; {count(notes, 'note')} below"
    word = diagnosis.verdict.value.replace("-", " ")
    first, *rest = wrapped(f"defib: {word}: {sentence}.", "", "  ")
    yield first.replace(word, style.paint(word, _COLOURS[diagnosis.verdict]), 1)
    yield from rest


def finding_lines(finding: Finding, style: Style, *, basis: bool = True) -> Iterator[str]:
    """Where and since when, why, the numbers, what it explains, what to type next.

    Args:
        finding: What is to be told.
        style: How the text is dressed.
        basis: Say what it rests on; that is worded for the steps of a run.

    Yields:
        Lines.
    """
    word = finding.severity.value
    where = [layer_name(finding.layer, finding.call), units_of(finding.units, finding.units_total)]
    since = None if finding.since_step is None else f"since step {finding.since_step:,}"
    head = "  ".join(part for part in (*where, since) if part)
    first, *rest = wrapped(f"{word:<{LABEL}}{head}", "", " " * LABEL)
    yield first.replace(word, style.paint(word, _COLOURS[finding.severity]), 1)
    yield from rest
    yield from labelled("", _message(finding))
    for sentence in prognosis_lines(finding.prognosis):
        yield from labelled("prognosis", sentence)
    if finding.severity != Severity.INFO:
        yield from _details(finding, basis=basis)
    yield from _explained(finding.explains)
    for command in dict.fromkeys((f"defib explain {finding.rule}", *finding.try_next)):
        yield from labelled("next", shown(command, 200))


def _details(finding: Finding, *, basis: bool) -> Iterator[str]:
    """Cause, path and numbers: what a finding of warning or worse has to prove."""
    words = meaning(finding.cause)
    yield from labelled("cause", f"{finding.cause.value}: {words}" if words else finding.cause.value)
    if len(finding.modules) > 1:
        yield from labelled("path", " > ".join(shown(module, 24) for module in finding.modules))
    yield from _evidence(finding.evidence)
    if basis:
        yield from labelled("rests on", f"{finding.confidence.value}: {meaning(finding.confidence)}")


def _message(finding: Finding) -> str:
    """The rule's sentence; a long layer name in it is shortened as elsewhere."""
    message = finding.message
    if len(finding.layer) > 36:
        message = message.replace(finding.layer, layer_name(finding.layer))
    return shown(message, 480)


def _evidence(evidence: tuple[Evidence, ...]) -> Iterator[str]:
    """The numbers, one a line, in two columns."""
    label = "evidence"
    wide = max((columns(shown(e.name, 40)) for e in evidence), default=0)
    for item in evidence[:_MOST_EVIDENCE]:
        name = shown(item.name, 40)
        gap = " " * (wide - columns(name) + 2)
        yield from labelled(label, f"{name}{gap}{quantity(item.value, item.unit)}", deeper=wide + 2)
        label = ""
    if len(evidence) > _MOST_EVIDENCE:
        yield from labelled("", f"and {count(len(evidence) - _MOST_EVIDENCE, 'more number')}: see --json")


def _explained(consequences: tuple[Finding, ...]) -> Iterator[str]:
    """What this finding causes, in one line for each of the first few."""
    if not consequences:
        return
    parts = []
    for each in consequences[:4]:
        units = f", {count(len(each.units), 'unit')}" if each.units else ""
        parts.append(f"{each.rule} in {layer_name(each.layer, each.call, 24)}{units}")
    more = f"; and {len(consequences) - 4} others" if len(consequences) > 4 else ""
    yield from labelled("explains", f"{len(consequences)} more: {'; '.join(parts)}{more}")


def treated_lines(treated: tuple[Treated, ...]) -> list[str]:
    """A line for each treatment: when, what, for what, and what came of it."""
    lines = []
    for each in treated[:_MOST_TREATED]:
        dose = ", ".join(f"{name}={_amount(value)}" for name, value in each.dose.items())
        what = f"at step {each.step:,}: {each.treatment}" + (f" ({dose})" if dose else "")
        if each.rule:
            what += f" for {each.rule} in {layer_name(each.layer)}"
        came = _AFTERMATH[each.aftermath.value].format(steps=count(each.steps_since, "step"))
        said = f"{each.stage}: {shown(each.why, 160)}" if each.stage != "done" else came
        lines += labelled("treated", f"{what}; {said}")
    if len(treated) > _MOST_TREATED:
        lines += labelled("", f"and {count(len(treated) - _MOST_TREATED, 'more treatment')}: see --json")
    return lines


def _amount(value: object) -> str:
    """One part of a dose; long lists by their length."""
    if isinstance(value, (list, tuple)) and len(value) > 4:
        return f"{len(value)} values"
    return shown(str(value), 40)


_AFTERMATH = {
    "gone": "gone in the {steps} seen since",
    "eased": "eased: in the {steps} seen since it is information only",
    "stays": "still there in the {steps} seen since",
    "too-early": "not found in the {steps} seen since, too few to tell",
    "not-asked": "{steps} seen since",
}


def _rules_that_broke(not_run: tuple[NotRun, ...]) -> Iterator[str]:
    """Rules without an answer: what they look for was not judged."""
    for each in not_run:
        yield from labelled("not run", f"{shown(each.rule, 40)}: {shown(each.why, 160)}")


def _coverage(coverage: Coverage) -> Iterator[str]:
    """How much was seen, and what was not."""
    text = f"{number(coverage.observed)} of {count(coverage.layers, 'layer')}"
    missing = coverage.not_observed
    if missing:
        text += f"; not: {'; '.join(_unseen(missing))}"
    yield from labelled("observed", text)
    steps = count(coverage.steps, "step")
    yield from labelled(
        "", f"{steps}, readings on {number(coverage.readings)} of them, {count(coverage.samples, 'sample')}"
    )


def _curvature(facts: object) -> Iterator[str]:
    """The last measurement of curvature, if there was one."""
    last = facts.get("last") if isinstance(facts, dict) else None
    if not isinstance(facts, dict) or not isinstance(last, dict):
        return
    text = f"largest eigenvalue {number(last['largest'])}"
    if "product" in last:
        text = f"rate x largest {number(last['product'])}, of {number(last['bound'])} that can be followed"
    times = f"measured on {count(facts['measured'], 'step')} in {number(facts['seconds'])} s"
    yield from labelled("curvature", f"{text} (step {last['step']:,}; {times})")


def _unseen(missing: tuple[Unseen, ...]) -> Iterator[str]:
    """What was not seen, those with one reason together."""
    reasons = list(dict.fromkeys(each.why for each in missing))
    for why in reasons[:_MOST_REASONS]:
        names = [layer_name(each.what, width=24) for each in missing if each.why == why]
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        yield f"{', '.join(names[:4])}{more} ({shown(why, 60)})"
    if len(reasons) > _MOST_REASONS:
        yield f"and {count(len(reasons) - _MOST_REASONS, 'more reason')}: see --json"


def _overhead(overhead: Overhead) -> str:
    """What watching cost."""
    allowed = f"budget {percent(overhead.budget)}" if overhead.budget else "no budget noted"
    if overhead.ratio is None:
        return f"{overhead.seconds:.3g} s in defib's own code; too short a run for a share ({allowed})"
    text = f"{percent(overhead.ratio)} or {overhead.seconds:.2g} s measured ({allowed})"
    if overhead.period > 1:
        text += f"; lately a reading every {number(round(overhead.period))} steps"
    return text


def _record(path: str, status: str, diagnosis: Diagnosis) -> Iterator[str]:
    """Where the record is and how to ask it again."""
    if not path:
        return
    notes = {"finished": "", "running": " (the run goes on)", "interrupted": " (the run was interrupted)"}
    near = os.path.relpath(path)
    path = path if near.startswith("..") else near
    yield from _unbroken("record", shown(path, 160) + notes.get(status, f" ({shown(status)})"))
    if diagnosis.findings or diagnosis.verdict != Verdict.HEALTHY:
        yield from _unbroken("next", f"defib diagnose {shown(shlex.quote(path), 160)} --json")


def _unbroken(label: str, text: str) -> Iterator[str]:
    """A labelled line that somebody may paste: however long, it stays one line."""
    yield f"{label:<{LABEL}}{escaped(text)}"
