"""A certificate as one block of text, at most 80 columns wide."""

from collections.abc import Iterator, Sequence

from defib.core.certificate import (
    BatchNormCertificate,
    Certificate,
    ChannelVerdict,
    LayerCertificate,
    PathCertificate,
    RankCertificate,
    UnitVerdict,
)
from defib.report.lines import wrapped
from defib.report.terminal import Style
from defib.report.wording import columns, count, layer_name, number, percent, shown, units_of

_INDENT = " " * 10
_NAME = 24
_MOST_ROWS = 30
_COLUMNS = {
    UnitVerdict.NEVER_FIRES: "never",
    UnitVerdict.ALWAYS_LINEAR: "linear",
    UnitVerdict.FIRES: "fires",
    UnitVerdict.NEVER_SEEN: "unseen",
    UnitVerdict.UNDECIDABLE: "rounding",
    UnitVerdict.OPEN: "open",
}


def certificate_text(certificate: Certificate, style: Style | None = None) -> str:
    """The whole block, without a newline at its end."""
    style = style or Style()
    lines = [*_headline(certificate, style)]
    if certificate.layers:
        lines += ["", *_table(certificate.layers), "", *_named_units(certificate.layers)]
    for norm in certificate.batch_norms:
        lines += _batch_norm(norm)
    if certificate.paths is not None:
        lines += _paths(certificate.paths)
    if certificate.rank is not None:
        lines += _rank(certificate.rank)
    lines += _facts(certificate)
    return "\n".join(lines)


def _headline(certificate: Certificate, style: Style) -> Iterator[str]:
    """What was proved, in one sentence."""
    total = sum(len(layer.units) for layer in certificate.layers)
    dead = sum(layer.count(UnitVerdict.NEVER_FIRES) for layer in certificate.layers)
    line = sum(layer.count(UnitVerdict.ALWAYS_LINEAR) for layer in certificate.layers)
    colour = "1;31" if dead or certificate.constant_output else "1;32"
    found = style.paint(f"{dead:,} of {count(total, 'unit')}", colour)
    yield f"defib: {found} proved never to fire, {line:,} always linear."
    yield from _wrap(
        f"for {certificate.domain}, rounding of {certificate.facts.get('dtype', '')} included", ""
    )
    if certificate.constant_output:
        yield "proved: the output is one and the same for every input of the domain."


def _table(layers: Sequence[LayerCertificate]) -> Iterator[str]:
    """One line an activation; verdicts that no unit has are left out."""
    used = [v for v in _COLUMNS if any(layer.count(v) for layer in layers)]
    yield _row("layer", ("", *(_COLUMNS[v] for v in used)))
    for layer in layers[:_MOST_ROWS]:
        name = layer_name(layer.layer, layer.call, width=_NAME)
        cells = [
            shown(layer.activation, 10),
            *(f"{layer.count(v):,}" if layer.count(v) else "" for v in used),
        ]
        yield _row(name, cells)
    if len(layers) > _MOST_ROWS:
        yield f"and {len(layers) - _MOST_ROWS} more: see --json"


def _named_units(layers: Sequence[LayerCertificate]) -> Iterator[str]:
    """Which units are dead, which were never seen to fire."""
    for layer in layers[:_MOST_ROWS]:
        name = layer_name(layer.layer, layer.call)
        dead = [u for u in layer.units if u.verdict is UnitVerdict.NEVER_FIRES]
        if dead:
            methods = " and ".join(sorted({u.method.value for u in dead if u.method is not None}))
            listed = units_of([u.unit for u in dead], len(layer.units))
            yield from _wrap(f"never     {name}: {listed} (by {methods})", _INDENT)
        unseen = [u for u in layer.units if u.verdict is UnitVerdict.NEVER_SEEN]
        if unseen:
            listed = units_of([u.unit for u in unseen], len(layer.units))
            rate = percent(unseen[0].rate_bound)
            yield from _wrap(f"unseen    {name}: {listed}; not proved; they fire for less than {rate} of "
                             "such inputs (95 %)", _INDENT)  # fmt: skip
        if layer.collapsible:
            yield from _wrap(f"affine    {name}: every unit is off or linear; the layer could be folded away",
                             _INDENT)  # fmt: skip


def _batch_norm(norm: BatchNormCertificate) -> Iterator[str]:
    """One BatchNorm in training mode."""
    parts = [f"{n:,} {verdict.value}" for verdict in ChannelVerdict if (n := norm.channels.count(verdict))]
    size = f"{norm.values:,} values a channel"
    text = f"training  {layer_name(norm.layer)} on batches of {size}: {', '.join(parts)}"
    yield from _wrap(text, _INDENT)


def _paths(paths: PathCertificate) -> Iterator[str]:
    lost = len(paths.without_path)
    text = (
        f"paths     {lost:,} of {count(paths.samples, 'sample')} without an active path from input to output"
    )
    if lost:
        cuts = sorted({layer_name(c) for c in paths.cuts}, key=lambda c: -paths.cuts.count(c))
        text += f"; cut at {', '.join(cuts[:3])}"
    yield from _wrap(text, _INDENT)


def _rank(rank: RankCertificate) -> Iterator[str]:
    if rank.certified:
        text = (
            f"rank      global minimum: rank [H, 1] = {rank.rank} = samples, and the output layer's gradient "
            f"is {number(rank.gradient)}; so |dL/doutput| <= {number(rank.residual_bound)}"
        )
    else:
        text = f"rank      says nothing here: {rank.reason}"
    yield from _wrap(text, _INDENT)


def _facts(certificate: Certificate) -> Iterator[str]:
    facts = certificate.facts
    text = (
        f"model     {facts.get('model', '')} in evaluation mode, {count(facts.get('samples', 0), 'sample')}"
        f", {certificate.seconds:.1f} s"
    )
    if facts.get("outside"):
        text += f"; {count(facts['outside'], 'sample')} outside of the domain did not count"
    yield from _wrap(text, _INDENT)
    for each in certificate.unsupported[:8]:
        yield from _wrap(f"no bound  {shown(each.what, 60)}: {shown(each.why, 120)}", _INDENT)
    if len(certificate.unsupported) > 8:
        yield f"{_INDENT}and {len(certificate.unsupported) - 8} more: see --json"


def _row(name: str, cells: Sequence[str]) -> str:
    """A name of fixed width and right-aligned cells."""
    width = min(10, (80 - _NAME) // max(len(cells), 1))
    return (name + " " * max(_NAME - columns(name), 0) + "".join(f"{c:>{width}}" for c in cells)).rstrip()


def _wrap(text: str, indent: str) -> Iterator[str]:
    """Lines of at most 80 columns."""
    yield from wrapped(text, rest=indent)
