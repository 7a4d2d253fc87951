"""What an experiment draws: data with names, not pixels; ``lab.page`` draws them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How the lines of a figure are drawn."""

    LINE = "line"
    POINTS = "points"
    BAR = "bar"
    """One group of bars a label; every line gives a bar to each."""
    HEAT = "heat"
    """Each line is a row of coloured cells."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series.

    Attributes:
        name: As the legend has it.
        x: Places, ascending for lines; the index of the label for bars.
        y: Values, as many.
        low: Lower ends of their intervals; empty for none.
        high: Upper ends.
        dashed: Drawn dashed: a prediction, not a measurement.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One plot.

    Attributes:
        title: What it shows, in a few words.
        x: Label of the horizontal axis, with its unit.
        y: Label of the vertical axis, with its unit.
        lines: The series.
        kind: How they are drawn.
        labels: Names of the places on the horizontal axis; empty for numbers.
        log_x: Whether the horizontal axis is logarithmic.
        log_y: Whether the vertical axis is.
    """

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    kind: Kind = Kind.LINE
    labels: tuple[str, ...] = ()
    log_x: bool = False
    log_y: bool = False


def line(
    name: str,
    x: Iterable[float],
    y: Iterable[float],
    *,
    low: Iterable[float] = (),
    high: Iterable[float] = (),
    dashed: bool = False,
) -> Line:
    """A series from any iterables of numbers (lists, arrays, tensors)."""
    numbers = [tuple(float(v) for v in series) for series in (x, y, low, high)]
    return Line(name=name, x=numbers[0], y=numbers[1], low=numbers[2], high=numbers[3], dashed=dashed)


def bars(name: str, y: Sequence[float]) -> Line:
    """A series of bars, one a label."""
    return line(name, range(len(y)), y)
