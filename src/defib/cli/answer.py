"""An answer on standard output: text for a person, or one JSON object for a program."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from defib.core.errors import UsageError

if TYPE_CHECKING:
    from defib.report.json import Answer
    from defib.report.terminal import Style

Found = TypeVar("Found", bound="Answer")


def answer(found: Found, text: "Callable[[Found, Style], str]", *, as_json: bool) -> None:
    """Says what was found.

    Args:
        found: Plain data.
        text: Makes the text of it.
        as_json: One JSON object instead.
    """
    from defib.report.json import to_json
    from defib.report.terminal import say, style_of

    say(to_json(found) if as_json else text(found, style_of(sys.stdout)), sys.stdout)


def whole(option: str, text: str, least: int = 0) -> int:
    """A whole number as it was typed.

    Args:
        option: The option that it belongs to ("--seed").
        text: What was typed.
        least: The smallest that is taken.

    Returns:
        The number.

    Raises:
        UsageError: If it is none, or smaller.
    """
    if not text.isdecimal() or int(text) < least:
        raise UsageError(f"{option} takes a whole number from {least}, not {text!r}")
    return int(text)
