"""An experiment's page (the docstring of its file) as HTML and as Markdown."""

import html
import re
from collections.abc import Iterator

from defib.lab.experiment import HEADINGS

_LETTERS = re.compile(r"``([^`]+)``|`([^`]+)`")


def sections(text: str) -> dict[str, str]:
    """The text under each of its headings, in order; what stands before them has the heading "".

    Args:
        text: A docstring with headings that are underlined or end with a colon.

    Returns:
        The texts, without the title line.
    """
    found: dict[str, list[str]] = {"": []}
    lines = text.splitlines()[1:]
    here = ""
    for line in lines:
        bare = line.rstrip(":").strip("# ").rstrip()
        if bare in HEADINGS and not line.startswith(" "):
            here = bare
            found[here] = []
        elif not (found[here] == [] and line.strip() and set(line.strip()) <= {"-", "=", "~"}):
            found[here].append(line)
    return {name: "\n".join(part).strip("\n") for name, part in found.items() if "".join(part).strip()}


def as_html(text: str) -> str:
    """Paragraphs, lists and indented blocks as HTML."""
    return "\n".join(_block(block) for block in _blocks(text))


def as_markdown(text: str) -> str:
    """The same as Markdown."""
    return re.sub(r"::\n\n(?=    )", ":\n\n", text).replace("``", "`")


def _blocks(text: str) -> Iterator[list[str]]:
    """Runs of lines without an empty one; indented runs that follow each other are one."""
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def _block(lines: list[str]) -> str:
    if all(line.startswith("    ") for line in lines):
        return f"<pre>{html.escape(chr(10).join(line[4:] for line in lines))}</pre>"
    if lines[0].startswith(("- ", "* ")):
        items: list[str] = []
        for line in lines:
            if line.startswith(("- ", "* ")):
                items.append(line[2:])
            else:
                items[-1] += " " + line.strip()
        return "<ul>" + "".join(f"<li>{_letters(item)}</li>" for item in items) + "</ul>"
    words = " ".join(line.strip() for line in lines)
    return f"<p>{_letters(words.removesuffix(':') if words.endswith('::') else words)}</p>"


def _letters(text: str) -> str:
    """Escaped text with its code spans."""
    return _LETTERS.sub(lambda m: f"<code>{m[1] or m[2]}</code>", html.escape(text, quote=False))
