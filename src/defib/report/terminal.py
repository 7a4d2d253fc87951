"""Writes to a terminal or a pipe, whatever characters that one can take."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from defib.core.errors import OutputError


@dataclass(frozen=True, kw_only=True)
class Style:
    """How the text is dressed.

    Attributes:
        colour: Use ANSI colours.
    """

    colour: bool = False

    def paint(self, text: str, colour: str) -> str:
        """The text in an ANSI colour ("1;31"), or as it is."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour else text


def style_of(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Style:
    """Colour on a terminal that can show it; NO_COLOR asks for none, FORCE_COLOR for some in a pipe too."""
    if environ.get("NO_COLOR"):
        return Style(colour=False)
    if environ.get("FORCE_COLOR", "0") not in {"", "0"}:
        return Style(colour=True)
    return Style(colour=environ.get("TERM") != "dumb" and stream.isatty())


def encoding_of(stream: TextIO | None, environ: Mapping[str, str] = os.environ) -> str:
    """In which encoding a stream can show characters.

    Python writes UTF-8 where the locale is called C; who asks for that locale by name has a terminal
    that shows ASCII.

    Args:
        stream: Where a text will be written; None if there is none.
        environ: The environment.

    Returns:
        The name of an encoding.
    """
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    if locale in {"C", "POSIX"}:
        return "ascii"
    return getattr(stream, "encoding", None) or "utf-8"


def say(text: str, stream: TextIO) -> None:
    """Writes a text and a newline in one piece, flushed.

    Characters that the stream's encoding lacks are escaped, the ellipsis spelt
    as three dots.

    Args:
        text: What to write.
        stream: Where.

    Raises:
        BrokenPipeError: If nobody reads any more.
        OutputError: If the text cannot be written (a full disk).
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.replace("…", "...").encode(encoding, "backslashreplace").decode(encoding)
    try:
        stream.write(text + "\n")
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"the answer cannot be written: {error.strerror or error}") from None
