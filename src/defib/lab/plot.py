"""Draws an experiment's figure as SVG whose colours are the page's, light or dark.

matplotlib draws it with placeholder colours; then every colour becomes ``currentColor``
or a class (``s-0``: the first series' stroke, ``f-0``: its fill, ``s-grid``), for which the
page has a colour in either theme. Text stays text, there are no style attributes (a
strict content security policy forbids them), and the same figure gives the same bytes.
"""

import io
import math
import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from defib.core.errors import EnvironmentProblem
from defib.lab.figure import Figure, Kind, Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = 8
"""Colours of series that a page has; a ninth series has the first one's again."""

SIZE = (5.2, 3.3)
"""Inches; small, so that its letters can still be read on a telephone."""

_INK = "#010203"
_GRID = "#020304"
_SERIES = tuple(f"#0a0a{k:02x}" for k in range(COLOURS))
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "defib",
    "text.parse_math": False,
    "font.size": 9,
    "axes.unicode_minus": True,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "path.simplify": True,
}


def svg(figure: Figure, mark: str) -> str:
    """The figure as one ``svg`` element, to stand in an HTML page.

    Args:
        figure: What to draw.
        mark: Begins every id in it, so that several can stand on one page.

    Returns:
        The element; its legend is the page's to write (see :func:`colours`).

    Raises:
        EnvironmentProblem: If matplotlib is missing; the message names the extra.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        raise EnvironmentProblem("plots need matplotlib: pip install 'defib[lab]'") from None
    with rc_context(_SETTINGS):  # type: ignore[arg-type]  # its keys are a literal type
        canvas = Canvas(figsize=SIZE, layout="constrained", facecolor="none")
        FigureCanvasSVG(canvas)
        axes = canvas.add_subplot(facecolor="none")
        _DRAWN[figure.kind](axes, figure)
        drawn = io.StringIO()
        canvas.savefig(drawn, format="svg", metadata={"Date": None}, transparent=True)
    return _inlined(drawn.getvalue(), mark, figure.title)


def colours(lines: Sequence[Line]) -> tuple[int | None, ...]:
    """The colour of each series; None is the ink of the text.

    A prediction (dashed) whose name holds a measurement's has that one's colour. Of the others as many
    as there are measurements are taken for their pairs, in order; a single one is drawn in ink.

    Returns:
        One entry a series.
    """
    solid = [n for n, line in enumerate(lines) if not line.dashed]
    dashed = [n for n, line in enumerate(lines) if line.dashed]
    own: dict[int, int | None] = {n: k % COLOURS for k, n in enumerate(solid)}
    pairs = {n: [m for m in solid if lines[m].name and lines[m].name in lines[n].name] for n in dashed}
    own |= {n: own[max(named, key=lambda m: len(lines[m].name))] for n, named in pairs.items() if named}
    rest = [n for n in dashed if n not in own]
    if len(rest) == 1 < len(solid):
        own[rest[0]] = None
    else:
        start = 0 if len(rest) == len(solid) else len(solid)
        own |= {n: (start + k) % COLOURS for k, n in enumerate(rest)}
    return tuple(own[n] for n in range(len(lines)))


def _paint(which: int | None) -> str:
    return _INK if which is None else _SERIES[which]


def _series(axes: "Axes", figure: Figure) -> None:
    """Lines or points, with a band or bars for their intervals."""
    for line, which in zip(figure.lines, colours(figure.lines), strict=True):
        x, y, low, high = (_finite(v) for v in (line.x, line.y, line.low, line.high))
        paint = _paint(which)
        if figure.kind is Kind.POINTS and not line.dashed:
            axes.plot(x, y, "o", color=paint, markersize=3.5)
            if low and high:
                axes.vlines(x, low, high, color=paint, linewidth=1)
            continue
        few = len(x) <= 12 and not line.dashed
        axes.plot(
            x, y, "--" if line.dashed else "-", color=paint, linewidth=1.5, marker="o" if few else "", ms=3
        )
        if low and high:
            axes.fill_between(x, low, high, color=paint, alpha=0.18, linewidth=0)
    _scales(axes, figure)
    if figure.labels:
        axes.set_xticks(range(len(figure.labels)), figure.labels)
    axes.grid(color=_GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel(_broken(figure.x))
    axes.set_ylabel(_broken(figure.y))


def _bars(axes: "Axes", figure: Figure) -> None:
    """Groups of bars; predictions as marks across them. Long labels lie: bars do too then."""
    solid = [line for line in figure.lines if not line.dashed] or list(figure.lines)
    labels = figure.labels or tuple(f"{x:g}" for x in figure.lines[0].x)
    lying = sum(map(len, labels)) > 42
    width = 0.8 / len(solid)
    slots = {id(line): (k - (len(solid) - 1) / 2) * width for k, line in enumerate(solid)}
    for line, which in zip(figure.lines, colours(figure.lines), strict=True):
        paint, y = _paint(which), _finite(line.y)
        places = [x + slots.get(id(line), 0.0) for x in line.x]
        if id(line) not in slots:
            along = {"marker": "|" if lying else "_", "markersize": 14, "markeredgewidth": 2}
            axes.plot(*((y, places) if lying else (places, y)), linestyle="", color=paint, **along)  # type: ignore[arg-type]
            continue
        (axes.barh if lying else axes.bar)(places, y, width * 0.92, color=paint)
        if line.low and line.high:
            ends = (_finite(line.low), _finite(line.high))
            (axes.hlines if lying else axes.vlines)(places, *ends, color=_INK, linewidth=1.2)
    _scales(axes, figure, lying=lying)
    if lying:
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
    else:
        axes.set_xticks(range(len(labels)), labels)
    axes.grid(axis="x" if lying else "y", color=_GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel(_broken(figure.y if lying else figure.x))
    axes.set_ylabel(_broken(figure.x if lying else figure.y))


def _heat(axes: "Axes", figure: Figure) -> None:
    """Rows of cells, the first series on top, and what their colours mean."""
    rows = [_finite(line.y) for line in figure.lines]
    image = axes.imshow(rows, aspect="auto", interpolation="nearest", cmap="viridis")
    names = figure.labels or tuple(f"{x:.3g}" for x in figure.lines[0].x)
    few = range(0, len(names), max(1, math.ceil(len(names) / 10)))
    axes.set_xticks(list(few), [names[k] for k in few])
    some = range(0, len(rows), max(1, math.ceil(len(rows) / 12)))
    axes.set_yticks(list(some), [figure.lines[k].name for k in some])
    axes.set_xlabel(_broken(figure.x))
    axes.set_ylabel(_broken(figure.y))
    bar = axes.figure.colorbar(image)
    bar.outline.set_visible(False)


_DRAWN = {Kind.LINE: _series, Kind.POINTS: _series, Kind.BAR: _bars, Kind.HEAT: _heat}


def _scales(axes: "Axes", figure: Figure, *, lying: bool = False) -> None:
    """Logarithmic axes, with plain numbers on them; an axis without a positive number stays linear."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    values = [v for line in figure.lines for v in (*line.y, *line.low, *line.high)]
    places = [v for line in figure.lines for v in line.x]
    upright, level = (axes.xaxis, axes.yaxis) if lying else (axes.yaxis, axes.xaxis)
    outside = "clip" if figure.kind is Kind.BAR else "mask"  # a bar begins at 0, which no such axis has
    for wanted, numbers, axis in ((figure.log_y, values, upright), (figure.log_x, places, level)):
        if not wanted or not any(0 < v < math.inf for v in numbers):
            continue
        (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log", nonpositive=outside)
        positive = [v for v in numbers if 0 < v < math.inf]
        axis.set_major_formatter(FuncFormatter(lambda v, _place: f"{v:g}"))
        if max(positive) / min(positive) > 20:  # else the numbers between powers of ten are all there is
            axis.set_minor_formatter(NullFormatter())
        else:
            axis.set_minor_formatter(FuncFormatter(_some))


def _some(value: float, _place: object) -> str:
    """A number between powers of ten, where there is room for it."""
    text = f"{value:.3g}"
    return text if text.strip("0.")[:1] in {"2", "3", "5"} else ""


def _broken(label: str) -> str:
    """A label in lines that fit the axis."""
    return "\n".join(textwrap.wrap(label, 44))


def _finite(values: Sequence[float]) -> list[float]:
    """Numbers to draw: what is not finite leaves a gap."""
    return [v if math.isfinite(v) else math.nan for v in values]


# ------------------------------------------------------------------ from matplotlib's SVG to ours

_SPACE = re.compile(r"\{[^}]*\}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)|^#(.+)$")
_NUMBER = re.compile(r"-?\d+\.\d{2,}")


def _inlined(text: str, mark: str, title: str) -> str:
    """What matplotlib wrote as an element without styles, foreign ids and metadata."""
    root = ElementTree.fromstring(text)
    for element in root.iter():
        element.tag = _SPACE.sub("", str(element.tag))
        element.attrib = {_SPACE.sub("", name): value for name, value in element.attrib.items()}
        element.tail = None
        if element.tag != "text" and element.text is not None and not element.text.strip():
            element.text = None
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in {"metadata", "style"}:
                parent.remove(child)
    referenced = {name for element in root.iter() for name in _references(element)}
    for element in root.iter():
        _plain(element, mark, referenced)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"class": "plot", "role": "img", "aria-label": title}
    return ElementTree.tostring(root, encoding="unicode")


def _references(element: ElementTree.Element) -> list[str]:
    """Ids that an element refers to."""
    found = [_REFERENCE.search(value) for value in element.attrib.values()]
    return [match[1] or match[2] for match in found if match]


def _plain(element: ElementTree.Element, mark: str, referenced: set[str]) -> None:
    """Styles as attributes, placeholder colours as classes, ids as this page's own."""
    _unstyled(element)
    if element.attrib.get("id") not in referenced:
        element.attrib.pop("id", None)
    for name, value in list(element.attrib.items()):
        if name == "id":
            element.set(name, f"{mark}-{value}")
        elif name == "href" and value.startswith("#"):
            element.set(name, f"#{mark}-{value[1:]}")
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{mark}-"))
        elif name == "d":  # a tenth of a point is less than a pixel
            element.set(name, _NUMBER.sub(lambda m: f"{float(m[0]):.1f}", value.replace("\n", " ")))


def _unstyled(element: ElementTree.Element) -> None:
    """What stood in ``style`` as attributes and classes."""
    styles = dict(part.split(":", 1) for part in element.attrib.pop("style", "").split(";") if ":" in part)
    classes = []
    for name, value in ((name.strip(), value.strip()) for name, value in styles.items()):
        if name == "font":
            size = re.search(r"[\d.]+px", value)
            element.set("font-size", size[0] if size else "9px")
        elif name in {"stroke", "fill"} and value in _CLASSES:
            classes.append(f"{name[0]}-{_CLASSES[value]}")
        else:
            element.set(name, "currentColor" if value == _INK else value)
    if element.tag == "text" and "fill" not in element.attrib:
        element.set("fill", "currentColor")
    if classes:
        element.set("class", " ".join(classes))


_CLASSES: dict[Any, str] = {_GRID: "grid", **{paint: str(k) for k, paint in enumerate(_SERIES)}}
