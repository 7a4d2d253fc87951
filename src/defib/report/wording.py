"""How names, numbers and lists of units are put before a person's eyes.

Names come from other people's code and can hold anything: terminal escape
sequences, right-to-left marks, lone surrogates, ten thousand characters. A
terminal gets them escaped and shortened; JSON keeps them exactly.
"""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_ENCODING: ContextVar[str] = ContextVar("encoding", default="utf-8")
# Control, format (bidi marks), surrogate, private and unassigned characters, line separators:
# none of them is visible as itself, and some of them command the terminal.
_UNSHOWABLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


@contextmanager
def spelt_in(encoding: str) -> Iterator[None]:
    """Texts made in here hold only characters of an encoding; others become escapes, which take room.

    Args:
        encoding: A name that python knows ("ascii", "latin-1"); an unknown one counts as "ascii".

    Yields:
        Nothing.
    """
    try:
        "".encode(encoding)
    except LookupError:
        encoding = "ascii"
    token = _ENCODING.set(encoding.lower())
    try:
        yield
    finally:
        _ENCODING.reset(token)


def ellipsis() -> str:
    """What stands for letters left out."""
    return "…" if _can_be_spelt("…") else "..."


def _can_be_spelt(character: str) -> bool:
    if _ENCODING.get() in {"utf-8", "utf8"} or character.isascii():
        return True
    try:
        character.encode(_ENCODING.get())
    except UnicodeEncodeError:
        return False
    return True


def escaped(text: str) -> str:
    """The text on one line, every character that is not plainly visible as an escape."""
    return "".join(_visible(c) for c in text)


def shown(name: str, width: int = 36) -> str:
    """A name, escaped, and cut in its middle to at most ``width`` columns."""
    # Escapes only make text longer: a few thousand characters decide what is shown.
    head, tail = name[: 2 * width], name[-2 * width :]
    whole = escaped(name) if len(name) <= 4 * width else None
    if whole is not None and columns(whole) <= width and len(whole) <= 4 * width:
        return whole
    dots = ellipsis()
    left = (width - len(dots)) // 2
    right = width - len(dots) - left
    return _fit(escaped(head), left) + dots + _fit(escaped(tail)[::-1], right)[::-1]


def columns(text: str) -> int:
    """Columns that a text takes in a terminal: two for wide characters, none for combining ones."""
    return sum(_width(c) for c in text)


def layer_name(path: str, call: int = 0, width: int = 36) -> str:
    """A layer as the user knows it; which use of it, if not the first."""
    suffix = f"#{call}" if call else ""
    if not path:
        return "(whole model)" + suffix
    bare = path.replace(".", "").isdigit()  # "0" of an nn.Sequential reads like a number
    before = "layer " if bare else ""
    return before + shown(path, width - len(before + suffix)) + suffix


def number(value: float | int | str) -> str:
    """A number with at most four digits that matter; whole numbers in full."""
    if isinstance(value, str):
        return shown(value, 48)
    if isinstance(value, bool) or not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def quantity(value: float | int | str, unit: str) -> str:
    """A number with its unit; a bare ratio has none."""
    return number(value) if unit in {"", "1"} else f"{number(value)} {escaped(unit)}"


def units_of(units: Sequence[int], total: int, most: int = 6) -> str:
    """``3 of 64 units: 1, 5, 9``; neighbours are drawn together, long lists cut."""
    if not total and not units:
        return ""
    if len(units) == total:
        return "its only unit" if total == 1 else f"all {total:,} units"
    parts = _ranges(units)
    listed = ", ".join(parts[:most]) + (ellipsis() if len(parts) > most else "")
    return f"{len(units):,} of {total:,} units" + (f": {listed}" if listed else "")


def count(n: int, noun: str) -> str:
    """``1 step``, ``2 steps``, ``1,000 steps``."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def percent(ratio: float) -> str:
    """A ratio as a percentage with two digits that matter."""
    return f"{100 * ratio:.2g} %" if ratio < 0.1 else f"{100 * ratio:,.0f} %"


def _visible(character: str) -> str:
    """A character as itself if it can be seen, else as an escape."""
    if unicodedata.category(character) not in _UNSHOWABLE and _can_be_spelt(character):
        return character
    return character.encode("unicode_escape").decode("ascii")


def _width(character: str) -> int:
    """Columns of one character."""
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _fit(text: str, width: int) -> str:
    """The longest beginning that takes at most ``width`` columns."""
    used = 0
    for position, character in enumerate(text[: 4 * width]):
        used += _width(character)
        if used > width:
            return text[:position]
    return text[: 4 * width]


def _ranges(units: Sequence[int]) -> list[str]:
    """Sorted indices with runs of three and more drawn together: 0-5, 9, 12."""
    parts: list[str] = []
    start = 0
    for i in range(1, len(units) + 1):
        if i < len(units) and units[i] == units[i - 1] + 1:
            continue
        run = units[start:i]
        parts += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(u) for u in run]
        start = i
    return parts
