"""The lab as one page: every claim with what was measured, every experiment with its plot.

The page needs no network and no server: style, script and plots are inside, and its
content security policy allows nothing else. Without JavaScript everything is shown;
with it the page can be filtered.
"""

import base64
import contextlib
import hashlib
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from defib.core.errors import NotFound, OutputError
from defib.lab import plot, prose
from defib.lab.dials import shown as dials_shown
from defib.lab.experiment import Experiment, Part
from defib.lab.figure import Figure
from defib.lab.index import Claim, claims, experiments
from defib.lab.index import page as docstring
from defib.lab.overview import WORDS, Overview, Shown, Told, command, figures, overview, printed
from defib.lab.result import Result, key, read

_SHOWN = 3
"""Figures of a claim that its row shows; more are folded away."""

_HOLDS = {"true": "holds", "false": "fails", "undecided": "open"}


def page(
    found: Sequence[Result], rows: Mapping[str, Claim], known: Mapping[str, type[Experiment[Any]]]
) -> str:
    """The whole page.

    Args:
        found: What was run, in any order; several seeds and scales are sorted out.
        rows: Every row of the list.
        known: Every experiment; those without a result are listed as not run.

    Returns:
        HTML. The same results give the same bytes.

    Raises:
        EnvironmentProblem: If matplotlib is missing.
    """  # noqa: DOC502 - the plots raise it
    seen = overview(found, rows, known)
    style, script = template("lab.css"), template("lab.js")
    allowed = f"img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    policy = f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    topics = list(dict.fromkeys(str(one.cls.topic) for one in seen.experiments))
    body = [_head(seen), _sieve(topics), _claims(seen), *_topics(seen, topics), _rest(seen)]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy, quote=False)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>The lab of defib</title>\n<style>{style}</style>\n</head>\n<body>",
            *body,
            f"<script>{script}</script>\n</body>\n</html>\n",
        ]
    )


def write(source: Path, output: Path) -> Path:
    """Writes the page of every result in a folder.

    Args:
        source: Folder of results, as `defib lab run` leaves it.
        output: The page's file; an older one is replaced.

    Returns:
        The page's file.

    Raises:
        NotFound: If there is no result in that folder.
        OutputError: If the file cannot be written.
    """
    found = results(source)
    if not found:
        raise NotFound(f"no results of the lab in {source}; make some with: defib lab run all -o {source}")
    text = page(found, claims(), experiments())
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror}") from None
    return output


def results(source: Path) -> list[Result]:
    """Every result in a folder; files that hold none are passed over.

    Args:
        source: The folder.

    Returns:
        In order of file name, those of experiments whose source has changed since before the others: of
        two results of one experiment, scale and seed the later one counts.
    """
    found = []
    for path in sorted(source.glob("*.json")) if source.is_dir() else ():
        with contextlib.suppress(OSError, ValueError):
            result = read(path)
            cls = experiments().get(result.order.slug)
            found.append((cls is not None and path.name == key(result.order, cls), path.name, result))
    return [result for _, _, result in sorted(found, key=lambda item: item[:2])]


@cache
def template(name: str) -> str:
    """The text of one of the page's own files."""
    return files("defib.lab").joinpath("templates", name).read_text(encoding="utf-8")


def figure(drawn: Figure, mark: str) -> str:
    """A plot with its title and legend as HTML."""
    colours = plot.colours(drawn.lines)
    keys = [_key(which, line.dashed, line.name) for which, line in zip(colours, drawn.lines, strict=True)]
    legend = f'<ul class="legend">{"".join(keys)}</ul>' if len(keys) > 1 and drawn.kind != "heat" else ""
    caption = f"<figcaption>{_text(drawn.title)}</figcaption>"
    return f"<figure>{caption}{plot.svg(drawn, mark)}{legend}</figure>"


def _key(which: int | None, dashed: bool, name: str) -> str:
    paint = 'stroke="currentColor"' if which is None else f'class="s-{which}"'
    dashes = ' stroke-dasharray="5 3"' if dashed else ""
    line = f'<line x1="0" y1="4" x2="22" y2="4" stroke-width="3" {paint}{dashes}/>'
    return f'<li><svg class="key" viewBox="0 0 22 8" aria-hidden="true">{line}</svg>{_text(name)}</li>'


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _text(text: object) -> str:
    return html.escape(str(text), quote=True)


def _verdict(word: str) -> str:
    return f'<span class="v v-{word.replace(" ", "-")}">{_text(word)}</span>'


def _head(seen: Overview) -> str:
    counts = seen.counts()
    run = [one for one in seen.experiments if one.results]
    parts = sum(len(told.parts) for told in seen.claims)
    differing = [told for told in seen.claims if told.differs]
    boxes = "".join(
        f'<li class="v-{word.replace(" ", "-")}"><b>{counts[word]}</b><span>{word}</span></li>'
        for word in WORDS
    )
    versions = ", ".join(sorted({r.torch for one in run for r in one.results}))
    told = [
        "<h1>The lab: claims about zero derivatives, measured</h1>",
        f"<p>{len(seen.claims)} claims; {len(run)} of {len(seen.experiments)} experiments were run and "
        f"measured {parts} statements. Every verdict is computed from numbers with 99 % intervals: a claim "
        "is put as a region; an interval inside confirms it, one outside refutes it, any other is "
        "undecided, and so is a verdict that changes with the seed.</p>",
        f'<ul class="counts">{boxes}</ul>',
    ]
    if differing:
        links = ", ".join(
            f'<a class="row" href="#{_text(t.claim.row)}">{_text(t.claim.row)}</a>' for t in differing
        )
        told.append(f"<p>Measured otherwise than proof and literature have it: {links}.</p>")
    elif run:
        told.append("<p>No measured verdict contradicts what proof and literature make of the claim.</p>")
    spent = sum(result.seconds for one in run for result in one.results)
    if run:
        scales = ", ".join(sorted({str(r.order.scale) for one in run for r in one.results}))
        told.append(
            f'<p class="soft">Scale {scales}; torch {_text(versions)}; {spent:.0f} s of CPU time in all.</p>'
        )
    return "\n".join(told)


def _sieve(topics: Iterable[str]) -> str:
    def options(values: Iterable[str]) -> str:
        return "".join(f'<option value="{_text(v)}">{_text(v)}</option>' for v in values)

    return (
        '<form class="sieve" id="sieve" role="search" hidden>'
        f'<div><label for="topic">Topic</label><select id="topic"><option value="">every topic</option>'
        f"{options(topics)}</select></div>"
        f'<div><label for="verdict">Verdict</label><select id="verdict"><option value="">every verdict'
        f"</option>{options(WORDS)}</select></div>"
        '<div><label for="text">Search</label><input id="text" type="search" autocomplete="off" '
        'placeholder="S2-10, batch norm"></div><output id="said"></output></form>'
    )


def _claims(seen: Overview) -> str:
    topics = {one.cls.slug: str(one.cls.topic) for one in seen.experiments}
    of_row: dict[str, list[str]] = {}
    for one in seen.experiments:
        for row in one.cls.rows:
            of_row.setdefault(row, []).append(one.cls.slug)
    body = "\n".join(_claim(told, of_row.get(told.claim.row, []), topics) for told in seen.claims)
    heads = "".join(
        f'<th scope="col">{h}</th>' for h in ("Row", "Claim", "Literature", "Measured", "Figures")
    )
    return (
        '<h2 id="claims">Claims</h2>\n<table class="claims">'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    )


def _claim(told: Told, slugs: Sequence[str], topics: Mapping[str, str]) -> str:
    row = _text(told.claim.row)
    where = "|".join(dict.fromkeys(topics[slug] for slug in slugs))
    judged = _verdict(str(told.claim.judged)) if told.claim.judged else '<span class="soft">-</span>'
    links = ", ".join(f'<a href="#{_text(slug)}">{_text(slug)}</a>' for slug in slugs)
    numbers = [
        f'<li><span class="soft">{_text(part.says)}:</span> {_text(figures(part.estimate))}; '
        f"claimed {_text(part.region)}{_beside(part)}: {_holds(part)}</li>"
        for _, part in told.parts
    ]
    why = f'<span class="soft">{_text(told.claim.untestable)}</span>' if told.claim.untestable else ""
    measured = f"{_verdict(told.word)}<br>{links}" if links else _verdict(told.word)
    return (
        f'<tr id="{row}" data-kind="claim" data-topics="{_text(where)}" data-verdicts="{told.word}">'
        f"<td><b>{row}</b></td><td>{_text(told.claim.says)}</td>"
        f'<td data-is="Literature">{judged}</td><td data-is="Measured">{measured}</td>'
        f"<td>{_folded(numbers) if numbers else why}</td></tr>"
    )


def _folded(items: Sequence[str]) -> str:
    """A list whose end is folded away if it is long."""
    if len(items) <= _SHOWN + 1:
        return f"<ul>{''.join(items)}</ul>"
    more = (
        f"<details><summary>{len(items) - _SHOWN} more</summary><ul>{''.join(items[_SHOWN:])}</ul></details>"
    )
    return f"<ul>{''.join(items[:_SHOWN])}</ul>{more}"


def _holds(part: Part) -> str:
    return f'<span class="v v-{part.verdict}">{_HOLDS[str(part.verdict)]}</span>'


def _beside(part: Part) -> str:
    found = printed(part)
    return f'; <span class="soft">published</span> {_text(found)}' if found else ""


def _topics(seen: Overview, topics: Iterable[str]) -> Iterable[str]:
    for topic in topics:
        inside = "\n".join(_experiment(one) for one in seen.experiments if str(one.cls.topic) == topic)
        title = topic[0].upper() + topic[1:]
        yield f"<section data-group><h2>{_text(title)}</h2>\n{inside}\n</section>"


def _experiment(one: Shown) -> str:
    cls = one.cls
    told = prose.sections(docstring(cls))
    words = "|".join(dict.fromkeys(str(v) for v in one.verdicts.values())) or "not measured"
    left = [f'<p class="soft">{_rows(one)}</p>']
    left += [
        f"<h4>{name}</h4>{prose.as_html(told[name])}" for name in ("Claim", "Prediction") if name in told
    ]
    right, below = "", []
    if one.results:
        first = one.results[0].measurement
        right = figure(first.figure, cls.slug)
        below = [f'<h4>Measured</h4><ul class="parts">{"".join(map(_part, first.parts))}</ul>', _seeds(one)]
        below += [f"<p>{_text(first.note)}</p>"] if first.note else []
    else:
        below = ['<p class="soft">Not run yet.</p>']
    more = [
        f"<h4>{name}</h4>{prose.as_html(told[name])}" for name in ("Method", "References") if name in told
    ]
    return (
        f'<article class="experiment" id="{_text(cls.slug)}" data-kind="experiment" '
        f'data-topics="{_text(cls.topic)}" data-verdicts="{words}"><h3>{_text(cls.title)}</h3>'
        f'<div class="body"><div>{"".join(left)}</div><div>{right}</div></div>{"".join(below)}'
        f"<details><summary>Method, dials, and how to run it again</summary>{''.join(more)}{_dials(one)}"
        f"<h4>Run it again</h4><pre>{_text(command(one))}</pre></details></article>"
    )


def _rows(one: Shown) -> str:
    told = [
        f'<a class="row" href="#{_text(row)}">{_text(row)}</a>'
        + (f" {_verdict(str(one.verdicts[row]))}" if row in one.verdicts else "")
        for row in one.cls.rows
    ]
    return f"{_text(one.cls.slug)}: " + ", ".join(told)


def _part(part: Part) -> str:
    return (
        f'<li><b>{_text(part.row)}</b> {_text(part.says)}: {_holds(part)}<span class="numbers">measured '
        f"{_text(figures(part.estimate))}; claimed {_text(part.region)}{_beside(part)}</span></li>"
    )


def _seeds(one: Shown) -> str:
    """Whether the verdicts were the same under every seed."""
    order = one.results[0].order
    seeds = ", ".join(str(result.order.seed) for result in one.results)
    told = f"Scale {order.scale}, seed{'s' * (len(one.results) > 1)} {seeds}"
    spent = sum(result.seconds for result in one.results)
    if len(one.results) > 1:
        every = [result.measurement.verdicts() for result in one.results]
        moved = [row for row in every[0] if len({verdicts.get(row) for verdicts in every}) > 1]
        told += "; figures of the first, " + (
            f"verdicts differ on {', '.join(moved)}" if moved else "verdicts the same under each"
        )
    return f'<p class="soft">{_text(told)}; {spent:.1f} s of CPU time.</p>'


def _dials(one: Shown) -> str:
    """Every dial with the value that was in force and what it means."""
    meanings = {dial.name: dial for dial in dials_shown(one.cls.dials())}
    in_force = one.results[0].dials if one.results else {name: d.value for name, d in meanings.items()}
    rows = "".join(
        f"<tr><td><code>{_text(name)}</code></td><td>{_text(_value(value))}</td>"
        f"<td>{_text(meanings[name].meaning if name in meanings else '')}</td></tr>"
        for name, value in in_force.items()
    )
    return f'<h4>Dials</h4><table class="dials">{rows}</table>' if rows else ""


def _value(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _rest(seen: Overview) -> str:
    if not seen.left_out:
        return ""
    items = "".join(f"<li>{_text(line)}</li>" for line in seen.left_out)
    return f"<h2>Results that settle nothing</h2><ul>{items}</ul>"
