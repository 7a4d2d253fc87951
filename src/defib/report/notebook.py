"""How a run shows itself in a notebook: a few kilobytes of HTML without a script, every name escaped."""

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from defib.core.comparison import RunComparison, State
from defib.core.diagnosis import Diagnosis, Verdict
from defib.core.finding import Finding, Severity
from defib.core.run import RunView
from defib.core.series import Series
from defib.report.wording import count, escaped, layer_name, number, percent, shown, units_of

_MOST_FINDINGS = 8
_POINTS = 120
_WIDTH, _HEIGHT = 240, 48
_COLOURS = {
    Verdict.HEALTHY: "#00704f",
    Verdict.SICK: "#b3400a",
    Verdict.NOT_OBSERVED: "#8a5a00",
}
_STYLE = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.5"
_CELL = "text-align:left;vertical-align:top;padding:2px 12px 2px 0"


def run_html(run: RunView, diagnosis: Diagnosis) -> str:
    """A run in short: verdict, findings, the loss as a small curve, what was seen.

    Args:
        run: The run.
        diagnosis: What is wrong with it.

    Returns:
        One HTML element; safe in any page, whatever layers are called.
    """
    word = diagnosis.verdict.value.replace("-", " ")
    troubles = sum(f.severity is not Severity.INFO for f in diagnosis.findings)
    parts = [
        f'<strong style="color:{_COLOURS[diagnosis.verdict]}">{word}</strong>: '
        f"{count(troubles, 'cause')} of trouble, {count(len(diagnosis.findings) - troubles, 'note')}",
        _curve(run.loss),
        _table(diagnosis.findings),
        f'<div style="opacity:.75">{_text(_seen(diagnosis), 300)}</div>',
    ]
    path = str(diagnosis.run.get("path", ""))
    if path:
        parts.append(f"<code>{_text(path, 100)}</code>")
    return f'<div class="defib" style="{_STYLE}">{"".join(f"<div>{p}</div>" for p in parts if p)}</div>'


def failed_html(path: str, why: str) -> str:
    """A run that cannot be read, in one line: a notebook shows no traceback for it.

    Args:
        path: The record.
        why: The reason.

    Returns:
        One HTML element.
    """
    return f'<div class="defib" style="{_STYLE}">defib: {_text(path, 100)}: {_text(why, 300)}</div>'


def comparison_html(comparison: RunComparison) -> str:
    """What changed between two runs, in short.

    Args:
        comparison: The comparison.

    Returns:
        One HTML element.
    """
    rows = []
    for state in State:
        for change in comparison.of(state)[:_MOST_FINDINGS]:
            cells = (state.value, change.rule, layer_name(change.layer, change.call), change.cause.value)
            rows.append("".join(f'<td style="{_CELL}">{_text(cell, 60)}</td>' for cell in cells))
    table = "".join(f"<tr>{row}</tr>" for row in rows)
    said = f"<strong>{_text(comparison.sentence, 200)}</strong>"
    return f'<div class="defib" style="{_STYLE}"><div>{said}</div><table>{table}</table></div>'


def _text(text: str, most: int) -> str:
    """Any text as HTML: visible, shortened, no markup."""
    return escape(shown(text, most))


def _seen(diagnosis: Diagnosis) -> str:
    seen, cost = diagnosis.coverage, diagnosis.overhead
    said = f"{count(seen.steps, 'step')}, {number(seen.observed)} of {count(seen.layers, 'layer')} observed"
    if cost.ratio is not None:
        said += f", overhead {percent(cost.ratio)}"
    status = str(diagnosis.run.get("status", "finished"))
    return said if status in {"finished", ""} else f"{said}, {escaped(status)}"


def _table(findings: Sequence[Finding]) -> str:
    """The findings, a row each."""
    if not findings:
        return ""
    rows = "".join(f"<tr>{''.join(_cells(f))}</tr>" for f in findings[:_MOST_FINDINGS])
    hidden = len(findings) - _MOST_FINDINGS
    more = f"<div>and {count(hidden, 'more finding')}: run.diagnose()</div>" if hidden > 0 else ""
    return f"<table>{rows}</table>{more}"


def _cells(finding: Finding) -> Iterator[str]:
    where = layer_name(finding.layer, finding.call)
    units = units_of(finding.units, finding.units_total)
    message = finding.message.replace(finding.layer, where) if len(finding.layer) > 36 else finding.message
    effects = f" ({count(len(finding.explains), 'consequence')})" if finding.explains else ""
    words = (finding.severity.value, finding.rule, where, units, message + effects)
    for word in words:
        yield f'<td style="{_CELL}">{_text(word, 240)}</td>'


def _curve(loss: Series) -> str:
    """The loss as a small picture; nothing for fewer than two numbers."""
    finite = np.isfinite(loss.values)
    steps, values = loss.steps[finite], loss.values[finite]
    if len(values) < 2:
        return ""
    blocks = np.array_split(np.arange(len(values)), min(_POINTS, len(values)))
    x = np.array([float(steps[block].mean()) for block in blocks])
    y = np.array([float(np.median(values[block])) for block in blocks])
    across = (x - x[0]) / max(1.0, x[-1] - x[0]) * _WIDTH
    height = float(np.ptp(y))
    down = (y.max() - y) / height * (_HEIGHT - 4) + 2 if height > 0 else np.full(len(y), _HEIGHT / 2)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
    said = f"loss {number(float(y[0]))} to {number(float(y[-1]))}"
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    return (
        f'<svg role="img" aria-label="{said}" {size}>'
        f'<polyline fill="none" stroke="currentColor" stroke-width="1.5" points="{line}"/></svg> {said}'
    )
