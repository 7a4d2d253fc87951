"""A triage as one block of text, at most 80 columns wide."""

import math
from collections.abc import Iterator, Sequence

from defib.core.triage import Curvature, Escape, NoiseTest, Standstill, TensorGradient, TensorState, Triage
from defib.report.lines import wrapped
from defib.report.terminal import Style
from defib.report.wording import columns, count, layer_name, number, percent, quantity, shown

_INDENT = " " * 10
_NAME = 25
_MOST_ROWS = 30
_MOST_SHARES = 4
_DONE = {Standstill.INTERPOLATED, Standstill.ZERO_LOSS, Standstill.MINIMUM, Standstill.DESCENDING}
_OPEN = {Standstill.UNDECIDED, Standstill.NOISE_FLOOR}


def triage_text(triage: Triage, style: Style | None = None) -> str:
    """The whole block, without a newline at its end."""
    style = style or Style()
    colour = "1;32" if triage.verdict in _DONE else "1;33" if triage.verdict in _OPEN else "1;31"
    lines = [f"defib: {style.paint(triage.verdict.value, colour)} ({triage.confidence.value})"]
    lines += ["", *_wrap(triage.sentence, "")]
    if triage.evidence:
        lines += ["", *_evidence(triage)]
    if triage.tensors:
        lines += ["", *_tensors(triage.tensors)]
    if triage.output is not None:
        lines += ["", *_wrap(triage.output.sentence, "")]
    lines += ["", *_facts(triage)]
    return "\n".join(lines)


def _evidence(triage: Triage) -> Iterator[str]:
    """What was asked, in order, and the numbers."""
    yield "asked in this order"
    for each in triage.evidence:
        value = quantity(each.value, each.unit)
        first, *more = wrapped(each.name, width=58)
        value = " " * (20 - columns(value)) + value if columns(value) < 20 else ""
        yield f"  {first}{' ' * (58 - columns(first)) if value else ''}{value}".rstrip()
        yield from (f"    {line}" for line in more)
        if not value:
            yield from wrapped(quantity(each.value, each.unit), "    ", "    ")


def _tensors(tensors: Sequence[TensorGradient]) -> Iterator[str]:
    """One line a parameter tensor."""
    yield _row("gradient of", ("state", "sum", "one sample", "cancels to", "/ chance"))
    for tensor in tensors[:_MOST_ROWS]:
        cells = (
            tensor.state.value,
            _size(tensor.norm),
            _size(tensor.sample_norm),
            _size(tensor.cancellation),
            _size(tensor.excess),
        )
        yield _row(shown(tensor.name, _NAME - 2), cells)
    if len(tensors) > _MOST_ROWS:
        yield f"and {len(tensors) - _MOST_ROWS} more: see --json"
    if any(t.state is TensorState.CANCELLED for t in tensors):
        yield from _wrap("cancelled: single samples have a gradient there, and their sum has none", "")


def _facts(triage: Triage) -> Iterator[str]:
    """How it was measured, and what was not."""
    facts = triage.facts
    parts = [
        str(facts["model"]), count(facts["parameters"], "parameter"), count(facts["samples"], "sample"),
        f"{facts['mode']} mode", f"loss {number(triage.loss)}", f"in {facts['precision']}",
    ]  # fmt: skip
    if facts["frozen"]:
        parts.insert(2, f"{percent(facts['frozen'])} frozen")
    yield from _wrap(f"looked at {', '.join(parts)}", _INDENT)
    if triage.noise is not None:
        yield from _wrap(_noise(triage.noise), _INDENT)
    if triage.curvature is not None:
        yield from _wrap(_curvature(triage.curvature), _INDENT)
    if triage.escape is not None:
        yield from _wrap(_escape(triage.escape), _INDENT)
    for each in triage.unseen:
        yield from _wrap(f"not seen  {layer_name(each.what)}: {shown(each.why, 200)}", _INDENT)


def _noise(noise: NoiseTest) -> str:
    return (
        f"samples   gradients of {count(noise.samples, 'sample')}, {noise.method}; z {number(noise.z)}; "
        f"of random signs {percent(noise.above)} agree and {percent(noise.below)} cancel at least as well"
    )


def _curvature(seen: Curvature) -> str:
    removed = [
        f"{n} {what}"
        for n, what in (
            (seen.null_units, "units"),
            (seen.null_inputs, "inputs"),
            (seen.null_biases, "biases"),
        )
        if n
    ]
    without = f" (nothing depends on {', '.join(removed)})" if removed else ""
    stable = f"; stable below lr {2 / seen.lambda_max:.3g}" if seen.lambda_max > 0 else ""
    return (
        f"curvature from {number(seen.lambda_min)} (to {seen.lambda_min_bound:.1g}) to "
        f"{number(seen.lambda_max)} (to {seen.lambda_max_bound:.1g}){stable}; {seen.products} Hessian "
        f"products, {seen.method}, {seen.active:,} of {seen.parameters:,} directions{without}"
    )


def _escape(way: Escape) -> str:
    main = ", ".join(f"{shown(s.name, 30)} {percent(s.share)}" for s in way.shares[:_MOST_SHARES])
    return (
        f"way down  the loss falls by {number(way.decrease)} ({percent(way.relative)}) at distance "
        f"{number(way.distance)}, order {number(way.order)}: {main}"
    )


def _row(name: str, cells: Sequence[str]) -> str:
    """A name of fixed width and right-aligned cells."""
    padding = " " * max(_NAME - columns(name), 0)
    return (name + padding + "".join(f"{c:>11}" for c in cells)).rstrip()


def _size(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1e}" if value and value < 0.01 else f"{value:.3g}"


def _wrap(text: str, indent: str) -> Iterator[str]:
    """Lines of at most 80 columns."""
    yield from wrapped(text, rest=indent)
