"""Findings as cards: everything in words, and which small plots show the evidence."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from defib.core.aftermath import Treated
from defib.core.cause import Fault
from defib.core.diagnosis import Diagnosis, Verdict
from defib.core.finding import Finding, Severity
from defib.core.prescription import Prescription, Safety
from defib.report.forecast import prognosis_lines
from defib.report.json import to_plain
from defib.report.meaning import meaning
from defib.report.prescription import SAFETY, command
from defib.report.text import treated_lines
from defib.report.wording import count, layer_name, units_of

_MOST_UNITS = 200
_MOST_FINDINGS = 60
_MOST_PRESCRIPTIONS = 4
_NAME = 60

_GRADIENT = frozenset({Fault.VANISHING, Fault.EXPLODING, Fault.UNDERFLOW, Fault.BAD_INIT})
_STEPS = frozenset({Fault.LR_TOO_HIGH, Fault.LR_TOO_LOW})
_LIVE = frozenset({Fault.DEAD_UNITS, Fault.SATURATION})


def sentence(diagnosis: Diagnosis) -> str:
    """The verdict in one sentence: what is wrong and where, or that nothing was found."""
    found = [f for f in diagnosis.findings if f.severity is not Severity.INFO]
    if diagnosis.verdict is Verdict.SICK and found:
        more = len(found) - 1
        first = _capital(message(found[0]).rstrip("."))
        others = f"; {count(more, 'more cause')} of trouble" if more else ""
        return f"{first}{others}."
    if diagnosis.verdict is Verdict.HEALTHY:
        gone = [t for t in diagnosis.treated if t.aftermath.value == "gone"]
        if gone:
            t = gone[-1]
            where = layer_name(t.layer, width=_NAME)
            return f"Learning again: {t.rule} in {where} is gone since {t.treatment} at step {t.step:,}."
        return "Nothing was found that keeps it from learning."
    return "Too little was seen to judge; this is not a clean bill of health."


def message(finding: Finding) -> str:
    """A finding's sentence; "layer 2" where a bare number is a layer's name."""
    if not finding.layer.replace(".", "").isdigit():
        return finding.message
    return re.sub(
        rf"\b(of|in|at|to|from) {re.escape(finding.layer)}(?![\w.])",
        rf"\1 layer {finding.layer}",
        finding.message,
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def cards(
    diagnosis: Diagnosis,
    rows: Mapping[tuple[str, int], int],
    titles: Mapping[str, str],
    prescriptions: Sequence[Prescription],
    script: str,
) -> list[dict[str, Any]]:
    """The findings, the most fundamental first.

    Args:
        diagnosis: The findings.
        rows: The row of each layer, by path and call.
        titles: Titles of rules, by slug.
        prescriptions: What could help.
        script: The script as it is typed.

    Returns:
        JSON-able cards.
    """
    record = str(diagnosis.run.get("path", "") or "RUN")
    found = []
    for finding in diagnosis.findings[:_MOST_FINDINGS]:
        card = _card(finding, rows, titles)
        fitting = [p for p in prescriptions if _is_for(p, finding)]
        card["prescriptions"] = [_prescription(p, record, script) for p in fitting[:_MOST_PRESCRIPTIONS]]
        card["more_prescriptions"] = max(0, len(fitting) - _MOST_PRESCRIPTIONS)
        found.append(card)
    return found


def _is_for(prescription: Prescription, finding: Finding) -> bool:
    same = (prescription.rule, prescription.layer, prescription.cause)
    return same == (finding.rule, finding.layer, finding.cause)


def _card(finding: Finding, rows: Mapping[tuple[str, int], int], titles: Mapping[str, str]) -> dict[str, Any]:
    """One finding with those that it explains."""
    plain: dict[str, Any] = {
        name: to_plain(getattr(finding, name))
        for name in ("rule", "fault", "severity", "confidence", "layer", "call", "since_step", "cause")
    }
    row = rows.get((finding.layer, finding.call), rows.get((finding.layer, 0)))
    return plain | {
        "message": message(finding),
        "title": _capital(titles.get(finding.rule, finding.rule)),
        "where": layer_name(finding.layer, finding.call, _NAME),
        "units_text": units_of(finding.units, finding.units_total),
        "units": list(finding.units[:_MOST_UNITS]),
        "unit_count": len(finding.units),
        "units_total": finding.units_total,
        "row": row,
        "cause_means": meaning(finding.cause),
        "confidence_means": meaning(finding.confidence),
        "modules": list(finding.modules),
        "evidence": to_plain(finding.evidence),
        "prognosis_lines": list(prognosis_lines(finding.prognosis)),
        "try_next": list(dict.fromkeys((f"defib explain {finding.rule}", *finding.try_next))),
        "plots": plots(finding, row),
        "prescriptions": [],
        "explains": [_card(each, rows, titles) for each in finding.explains[:_MOST_FINDINGS]],
        "explains_count": len(finding.explains),
    }


def plots(finding: Finding, row: int | None) -> list[dict[str, Any]]:
    """Which small plots show the evidence; each names data that stands elsewhere on the page."""
    if finding.severity is Severity.INFO:
        return []
    found: list[dict[str, Any]] = []
    if finding.fault in _LIVE and row is not None:
        found.append({"kind": "row", "grid": "liveness", "row": row})
        found.append({"kind": "units", "row": row})
    if finding.fault in _GRADIENT:
        found.append({"kind": "depth"})
    if finding.fault in _GRADIENT and row is not None and finding.layer:
        found.append({"kind": "row", "grid": "gradient", "row": row})
    if finding.fault in _STEPS:
        found.append({"kind": "row", "grid": "ratio", "row": row})
    return [*found, {"kind": "loss"}][:3]


def _prescription(each: Prescription, record: str, script: str) -> dict[str, Any]:
    """A treatment, why, and what to type."""
    live = each.safety is not Safety.SOURCE
    return {
        "treatment": each.treatment,
        "reason": each.reason,
        "safety": each.safety.value,
        "safety_means": SAFETY[each.safety],
        "strength": each.strength,
        "command": command(each, record, script) if live else "",
        "patch": each.patch,
        "at": each.at,
    }


def script_of(run: Mapping[str, Any]) -> str:
    """The script of a run as it is typed."""
    target = str(run.get("target") or "")
    if not target or target.startswith("-"):
        return "train.py"
    is_file = target.endswith(".py") or "/" in target
    arguments = run.get("arguments")
    rest = [shlex.quote(str(a)) for a in arguments] if isinstance(arguments, (list, tuple)) else []
    return " ".join([("" if is_file else "-m ") + shlex.quote(target), *rest])


def treated(given: Sequence[Treated]) -> list[dict[str, Any]]:
    """Each treatment with a sentence on what came of it."""
    found = []
    for each in given:
        words = " ".join(" ".join(treated_lines((each,))).split()).removeprefix("treated ")
        found.append({**to_plain(each), "sentence": words})
    return found
