"""The pieces of HTML that pages of the lab are made of."""

import html

from defib.lab import plot
from defib.lab.experiment import Part
from defib.lab.figure import Figure
from defib.lab.overview import HOLDS, printed


def text(said: object) -> str:
    """Anything as text that cannot become markup."""
    return html.escape(str(said), quote=True)


def badge(word: str) -> str:
    """A verdict in its colour."""
    return f'<span class="v v-{word.replace(" ", "-")}">{text(word)}</span>'


def holds(part: Part) -> str:
    """Whether one part of a claim holds."""
    return f'<span class="v v-{part.verdict}">{HOLDS[part.verdict]}</span>'


def beside(part: Part) -> str:
    """The figure that somebody else printed, to stand behind the region; "" if there is none."""
    found = printed(part)
    return f'; <span class="soft">published</span> {text(found)}' if found else ""


def figure(drawn: Figure, mark: str) -> str:
    """A plot with its title and legend as HTML."""
    colours = plot.colours(drawn.lines)
    keys = [_key(which, line.dashed, line.name) for which, line in zip(colours, drawn.lines, strict=True)]
    legend = f'<ul class="legend">{"".join(keys)}</ul>' if len(keys) > 1 and drawn.kind != "heat" else ""
    caption = f"<figcaption>{text(drawn.title)}</figcaption>"
    return f"<figure>{caption}{plot.svg(drawn, mark)}{legend}</figure>"


def _key(which: int | None, dashed: bool, name: str) -> str:
    paint = 'stroke="currentColor"' if which is None else f'class="s-{which}"'
    dashes = ' stroke-dasharray="5 3"' if dashed else ""
    line = f'<line x1="0" y1="4" x2="22" y2="4" stroke-width="3" {paint}{dashes}/>'
    return f'<li><svg class="key" viewBox="0 0 22 8" aria-hidden="true">{line}</svg>{text(name)}</li>'
