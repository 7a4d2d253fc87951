"""Lines of at most 80 columns as a terminal shows them: labelled, and wrapped below themselves."""

from defib.report.wording import columns, escaped

WIDTH = 80

LABEL = 10
"""Columns taken by "evidence  " and its like."""


def labelled(label: str, text: str, deeper: int = 0) -> list[str]:
    """A labelled line, wrapped below itself.

    Args:
        label: Its first word, below ten columns; "" for a line that goes on.
        text: Anything; what cannot be seen is escaped.
        deeper: Further columns by which the lines after the first are indented, at most 30.

    Returns:
        Lines of at most 80 columns.
    """
    indent = " " * (LABEL + min(deeper, 30))
    return wrapped(f"{label:<{LABEL}}{text}", "", indent)


def wrapped(text: str, first: str = "", rest: str = "", width: int = WIDTH) -> list[str]:
    """Lines of at most 80 columns, spaces inside a line kept; nothing passes unescaped.

    Unlike the standard library's ``textwrap`` this counts columns, not characters: of wide ones a
    terminal shows half as many in a line.

    Args:
        text: Anything.
        first: Indent of the first line.
        rest: Indent of the others.
        width: Columns.

    Returns:
        At least one line.
    """
    lines: list[str] = []
    pending, indent = escaped(text), first
    while columns(indent + pending) > width:
        cut = _cut(pending, width - columns(indent))
        lines.append((indent + pending[:cut]).rstrip())
        pending, indent = pending[cut:].lstrip(), rest
    return [*lines, (indent + pending).rstrip()]


def _cut(text: str, room: int) -> int:
    """Where to break: after the last space that leaves a line of at most ``room`` columns."""
    used = end = 0
    for end, character in enumerate(text):  # noqa: B007 - its last value is used
        used += columns(character)
        if used > room:
            break
    space = text.rfind(" ", LABEL + 1 if text[:LABEL].endswith(" ") else 1, end + 1)
    return space if space > 0 else max(end, 1)
