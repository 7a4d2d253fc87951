"""The files of a page: our own style and scripts, and the chart library beside its licence."""

from functools import cache
from importlib.resources import files

STYLES = ("uplot.css", "page.css", "parts.css")
SCRIPTS = (
    "uplot.js",
    "base.js",
    "data.js",
    "lines.js",
    "heat.js",
    "verdict.js",
    "network.js",
    "layer.js",
    "time.js",
    "foot.js",
    "page.js",
)
"""In the order in which they are put into a page."""

_VENDORED = ("uplot.js", "uplot.css")


@cache
def text(name: str) -> str:
    """One file of ``templates`` or ``vendor``, as it is put into a page."""
    folder = "vendor" if name in _VENDORED else "templates"
    return files("defib.report").joinpath(folder, name).read_text(encoding="utf-8")


def style() -> str:
    """The whole style sheet."""
    return "\n".join(text(name) for name in STYLES)


def scripts() -> tuple[str, ...]:
    """The scripts that every page has."""
    return tuple(text(name) for name in SCRIPTS)
