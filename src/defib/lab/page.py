"""The lab as one page: every claim with what was measured, every experiment with its plot.

The page needs no network and no server: style, script and plots are inside, and its
content security policy allows nothing else. Without JavaScript everything is shown;
with it the page can be filtered.
"""

import base64
import hashlib
import html
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from defib.core.errors import NotFound
from defib.lab.article import article
from defib.lab.experiment import Experiment
from defib.lab.html_parts import badge, beside, holds, text
from defib.lab.index import Claim, claims, experiments
from defib.lab.overview import WORDS, Overview, Told, figures, overview
from defib.lab.result import Result, results
from defib.report.whole import write_text

_SHOWN = 3
"""Figures of a claim that its row shows; more are folded away."""


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
    """  # noqa: DOC502 - the writing raises it
    found = results(source)
    if not found:
        raise NotFound(f"no results of the lab in {source}; make some with: defib lab run all -o {source}")
    write_text(output, page(found, claims(), experiments()), force=True)
    return output


@cache
def template(name: str) -> str:
    """The text of one of the page's own files."""
    return files("defib.lab").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


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
            f'<a class="row" href="#{text(t.claim.row)}">{text(t.claim.row)}</a>' for t in differing
        )
        told.append(f"<p>Measured otherwise than proof and literature have it: {links}.</p>")
    elif run:
        told.append("<p>No measured verdict contradicts what proof and literature make of the claim.</p>")
    spent = sum(result.seconds for one in run for result in one.results)
    if run:
        scales = ", ".join(sorted({str(r.order.scale) for one in run for r in one.results}))
        told.append(
            f'<p class="soft">Scale {scales}; torch {text(versions)}; {spent:.0f} s of CPU time in all.</p>'
        )
    return "\n".join(told)


def _sieve(topics: Iterable[str]) -> str:
    def options(values: Iterable[str]) -> str:
        return "".join(f'<option value="{text(v)}">{text(v)}</option>' for v in values)

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
    row = text(told.claim.row)
    where = "|".join(dict.fromkeys(topics[slug] for slug in slugs))
    judged = badge(str(told.claim.judged)) if told.claim.judged else '<span class="soft">-</span>'
    links = ", ".join(f'<a href="#{text(slug)}">{text(slug)}</a>' for slug in slugs)
    numbers = [
        f'<li><span class="soft">{text(part.says)}:</span> {text(figures(part.estimate))}; '
        f"claimed {text(part.region)}{beside(part)}: {holds(part)}</li>"
        for _, part in told.parts
    ]
    why = f'<span class="soft">{text(told.claim.untestable)}</span>' if told.claim.untestable else ""
    measured = f"{badge(told.word)}<br>{links}" if links else badge(told.word)
    return (
        f'<tr id="{row}" data-kind="claim" data-topics="{text(where)}" data-verdicts="{told.word}">'
        f"<td><b>{row}</b></td><td>{text(told.claim.says)}</td>"
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


def _topics(seen: Overview, topics: Iterable[str]) -> Iterable[str]:
    for topic in topics:
        inside = "\n".join(article(one) for one in seen.experiments if str(one.cls.topic) == topic)
        title = topic[0].upper() + topic[1:]
        yield f"<section data-group><h2>{text(title)}</h2>\n{inside}\n</section>"


def _rest(seen: Overview) -> str:
    if not seen.left_out:
        return ""
    items = "".join(f"<li>{text(line)}</li>" for line in seen.left_out)
    return f"<h2>Results that settle nothing</h2><ul>{items}</ul>"
