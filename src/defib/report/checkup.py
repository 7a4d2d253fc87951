"""A check before training as one block of text, at most 80 columns wide."""

import math
from collections.abc import Iterator, Sequence

from defib.core.checkup import Attention, Checkup, Decades, GainLedger, LayerCheck
from defib.core.diagnosis import Verdict
from defib.core.finding import Severity
from defib.core.recurrence import Recurrence
from defib.report.lines import wrapped
from defib.report.terminal import Style
from defib.report.text import finding_lines
from defib.report.wording import columns, count, layer_name, number, shown

_MOST_ROWS = 30
_MOST_UNSEEN = 8
_NAME = 22
_INDENT = " " * 10
_PARTS = ("derivative", "weights", "norms", "skips", "attention", "other", "unattributed")
_SHORT = {"derivative": "deriv.", "attention": "attent.", "unattributed": "unattr."}
"""Headings where there is no room for the whole word."""
_COLOURS = {Verdict.HEALTHY: "1;32", Verdict.SICK: "1;31", Verdict.NOT_OBSERVED: "1;33"}


def checkup_text(checkup: Checkup, style: Style | None = None) -> str:
    """The whole block, without a newline at its end."""
    style = style or Style()
    lines = [_verdict(checkup, style)]
    for finding in checkup.findings:
        lines += ["", *finding_lines(finding, style, basis=False)]
    if checkup.layers:
        lines += ["", *_layers(checkup.layers)]
    if checkup.ledger is not None:
        lines += ["", *_ledger(checkup.ledger)]
    if checkup.recurrences:
        lines += ["", *_recurrences(checkup.recurrences)]
    lines += ["", *_facts(checkup)]
    return "\n".join(lines)


def _verdict(checkup: Checkup, style: Style) -> str:
    found = [f for f in checkup.findings if f.severity is not Severity.INFO]
    word = checkup.verdict.value
    if found:
        sentence = f"{count(len(found), 'cause')} of trouble before any training ({found[0].rule})"
    else:
        sentence = "nothing found before training that would keep it from learning"
    return f"defib: {style.paint(word, _COLOURS[checkup.verdict])}: {sentence}."


def _layers(layers: Sequence[LayerCheck]) -> Iterator[str]:
    """One line a layer."""
    heads = ("signal", "grad", "gain", "needed", "off", "expect", "6 xi_c")
    yield _row("layer", heads)
    for layer in layers[:_MOST_ROWS]:
        off = f"{layer.off}/{layer.units}" if layer.units else ""
        expected = "" if math.isnan(layer.expected_off) else f"{100 * layer.expected_off:.1f} %"
        cells = (
            _size(layer.signal), _size(layer.gradient), _plain(layer.gain), _plain(layer.needed), off,
            expected,
            "" if math.isnan(layer.depth) else f"{layer.depth:.1f}",
        )  # fmt: skip
        yield _row(layer_name(layer.path, width=_NAME), cells)
    yield from _more(len(layers))


def _ledger(ledger: GainLedger) -> Iterator[str]:
    """The gain ledger; columns that are zero throughout are left out."""
    parts = [p for p in _PARTS if any(getattr(s.gain, p) for s in ledger.stretches)]
    start, end = layer_name(ledger.start_layer), layer_name(ledger.end_layer)
    yield from wrapped(f"gain ledger: decades of gradient from {start} down to {end}", rest="  ")
    room = _cell(len(parts) + 1, 11) - 1
    heads = (part if len(part) <= room else _SHORT[part] for part in parts)
    yield _row("down to", [*heads, "sum"], wide=11)
    for stretch in ledger.stretches[:_MOST_ROWS]:
        name = layer_name(stretch.layer, width=_NAME)
        yield _row(name, [*_cells(stretch.gain, parts), _decades(stretch.gain.total)], wide=11)
        if stretch.block is not None:
            block = stretch.block
            text = f"skip {block.skip:.3g} + cross {block.cross:.3g} + branch {block.branch:.3g}"
            if block.inside is not None:
                own = ", ".join(
                    f"{p} {_decades(getattr(block.inside, p))}" for p in _PARTS if getattr(block.inside, p)
                )
                text += f"; in the branch: {own}" if own else ""
            yield from _wrap(text, "    ")
        if stretch.attention is not None:
            yield from _wrap(_attention(stretch.attention), "    ")
        if stretch.unknown:
            yield from _wrap(f"not attributed: {stretch.unknown}", "    ")
    yield from _more(len(ledger.stretches))
    gain = ledger.gain
    yield _row("in all", [*_cells(gain, parts), _decades(gain.total)], wide=11)
    if len(ledger.stretches) > 1:
        yield _row("per layer", [*_cells(ledger.per_layer, parts), ""], wide=11)
    if ledger.probe is not None:
        yield _row("random signs", [*_cells(ledger.probe, parts), _decades(ledger.probe.total)], wide=11)


def _attention(part: Attention) -> str:
    """The five parts of an attention's gradient, and how even its rows are."""
    text = f"query {part.query:.3g} + key {part.key:.3g} + value {part.value:.3g}"
    text += f" + around {part.around:.3g}" if part.around else ""
    text += f" + cross {part.cross:.3g}"
    if not math.isnan(part.entropy):
        text += f"; entropy {part.entropy:.2f} of {part.uniform:.2f}, softmax passes {part.softmax:.2g}"
    return text


def _recurrences(recurrences: Sequence[Recurrence]) -> Iterator[str]:
    """One line a recurrent layer: decades per lag, and how far back the gradient reaches."""
    yield "recurrent layers: decades of gradient per step back in time"
    yield _row("layer", ("lags", "derivat.", "weights", "gate", "sum", "memory"), wide=11)
    for each in recurrences[:_MOST_ROWS]:
        name = f"{each.path} {each.depth}{' reversed' if each.reverse else ''}"
        if each.unknown:
            yield from _wrap(f"{layer_name(each.path)}: not parted: {each.unknown}", "    ")
            continue
        lag = each.per_lag
        gate = "" if math.isnan(lag.gate) else _decades(lag.gate)
        memory = str(each.memory) if each.memory else f"> {len(each.lags)}"
        cells = (str(len(each.lags)), _decades(lag.derivative), _decades(lag.weights), gate)
        yield _row(layer_name(name, width=_NAME), (*cells, _decades(each.total), memory), wide=11)
    yield from _more(len(recurrences))


def _facts(checkup: Checkup) -> Iterator[str]:
    """What was looked at, and what was not."""
    facts = checkup.facts
    parts = [str(facts.get("model", ""))]
    if "parameters" in facts:
        parts += [count(facts["parameters"], "parameter"), count(facts["samples"], "sample")]
        parts += [f"{facts['mode']} mode", f"loss {number(checkup.loss)}"]
    yield from _wrap(f"checked   {', '.join(parts)}", _INDENT)
    if not math.isnan(checkup.depth):
        plain = "without limit" if math.isinf(checkup.depth) else f"{checkup.depth:.1f} layers"
        yield f"depth     a signal like this reaches {plain} (6 xi_c, mean-field theory)"
    if checkup.reach is not None:
        depth, low, high = map(_layers_of, (checkup.reach.depth, checkup.reach.low, checkup.reach.high))
        yield f"          measured on its own layers: {depth} ({low} to {high})"
    if checkup.ledger is not None and not math.isnan(checkup.ledger.alignment):
        bonus = checkup.ledger.alignment
        yield f"aligned   the real gradient gains {_decades(bonus)} decades over one of random signs"
    if checkup.dead_probability > 1e-3:
        yield f"widths    {100 * checkup.dead_probability:.2g} % chance that a layer is off for a given input"
    for each in checkup.unseen[:_MOST_UNSEEN]:
        yield from _wrap(f"not seen  {layer_name(each.what)}: {shown(each.why, 200)}", _INDENT)
    if len(checkup.unseen) > _MOST_UNSEEN:
        yield f"{_INDENT}and {len(checkup.unseen) - _MOST_UNSEEN} more: see --json"


def _layers_of(depth: float) -> str:
    return "no limit" if math.isinf(depth) else f"{depth:.1f} layers"


def _more(rows: int) -> Iterator[str]:
    if rows > _MOST_ROWS:
        yield f"and {rows - _MOST_ROWS} more: see --json"


def _row(name: str, cells: Sequence[str], wide: int = 8) -> str:
    """A name of fixed width and right-aligned cells."""
    width = _cell(len(cells), wide)
    padding = " " * max(_NAME - columns(name), 0)
    return (name + padding + "".join(f"{c:>{width}}" for c in cells)).rstrip()


def _cell(cells: int, wide: int) -> int:
    """Columns of each of that many cells beside a name."""
    return min(wide, (80 - _NAME) // max(cells, 1))


def _cells(gain: Decades, parts: Sequence[str]) -> list[str]:
    return [_decades(getattr(gain, p)) for p in parts]


def _decades(value: float) -> str:
    return f"{value:+.3f}" if value else "0"


def _size(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1e}" if value and value < 0.01 else f"{value:.3g}"


def _plain(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _wrap(text: str, indent: str) -> Iterator[str]:
    """Lines of at most 80 columns, the first indented only if it is no labelled line."""
    first = "" if indent == _INDENT else indent
    yield from wrapped(text, first, indent)
