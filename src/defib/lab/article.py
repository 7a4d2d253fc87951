"""One experiment as an article of the lab's page: question, plot, numbers, dials, how to run it again."""

import math
from typing import Any

from defib.lab import prose
from defib.lab.dials import shown as dials_shown
from defib.lab.experiment import Part
from defib.lab.html_parts import badge, beside, figure, holds, text
from defib.lab.index import page as docstring
from defib.lab.overview import Shown, command, figures


def article(one: Shown) -> str:
    """The experiment as HTML, with the page's data for its filter."""
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
        below += [f"<p>{text(first.note)}</p>"] if first.note else []
    else:
        below = ['<p class="soft">Not run yet.</p>']
    more = [
        f"<h4>{name}</h4>{prose.as_html(told[name])}" for name in ("Method", "References") if name in told
    ]
    return (
        f'<article class="experiment" id="{text(cls.slug)}" data-kind="experiment" '
        f'data-topics="{text(cls.topic)}" data-verdicts="{words}"><h3>{text(cls.title)}</h3>'
        f'<div class="body"><div>{"".join(left)}</div><div>{right}</div></div>{"".join(below)}'
        f"<details><summary>Method, dials, and how to run it again</summary>{''.join(more)}{_dials(one)}"
        f"<h4>Run it again</h4><pre>{text(command(one))}</pre></details></article>"
    )


def _rows(one: Shown) -> str:
    told = [
        f'<a class="row" href="#{text(row)}">{text(row)}</a>'
        + (f" {badge(str(one.verdicts[row]))}" if row in one.verdicts else "")
        for row in one.cls.rows
    ]
    return f"{text(one.cls.slug)}: " + ", ".join(told)


def _part(part: Part) -> str:
    return (
        f'<li><b>{text(part.row)}</b> {text(part.says)}: {holds(part)}<span class="numbers">measured '
        f"{text(figures(part.estimate))}; claimed {text(part.region)}{beside(part)}</span></li>"
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
    return f'<p class="soft">{text(told)}; {spent:.1f} s of CPU time.</p>'


def _dials(one: Shown) -> str:
    """Every dial with the value that was in force and what it means."""
    meanings = {dial.name: dial for dial in dials_shown(one.cls.dials())}
    in_force = one.results[0].dials if one.results else {name: d.value for name, d in meanings.items()}
    rows = "".join(
        f"<tr><td><code>{text(name)}</code></td><td>{text(_value(value))}</td>"
        f"<td>{text(meanings[name].meaning if name in meanings else '')}</td></tr>"
        for name, value in in_force.items()
    )
    return f'<h4>Dials</h4><table class="dials">{rows}</table>' if rows else ""


def _value(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
