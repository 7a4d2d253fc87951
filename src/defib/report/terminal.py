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
    """Colour on a terminal that can show it, unless NO_COLOR asks for none."""
    plain = bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"
    return Style(colour=not plain and stream.isatty())


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
