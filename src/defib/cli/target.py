"""The script or module that a command line names: where its part begins, and whether it is there."""

import os
import sys
from collections.abc import Collection, Sequence

from defib.core.errors import NotFound


def divide(words: Sequence[str], with_value: Collection[str]) -> tuple[list[str], list[str]]:
    """Cuts a command line where the script's part begins, as python itself would.

    argparse cannot: it would take the script's ``-o``, ``-q`` and ``--`` for ours.

    Args:
        words: What follows the command's name.
        with_value: Its long options that take a value.

    Returns:
        Our options; and the script with its arguments, or ``-m``, the module
        and its arguments. The second is empty if no script was named.
    """
    own: list[str] = []
    i = 0
    while i < len(words):
        word, rest = words[i], list(words[i + 1 :])
        if word == "--":
            return own, _module_apart(rest)
        if word.startswith("--"):
            step = 1 if "=" in word or word not in with_value else 2
        elif len(word) > 1 and word.startswith("-"):
            flags, letter, value = _cluster(word[1:])
            if letter == "m":
                return [*own, *flags], ["-m", *([value] if value else []), *rest]
            step = 2 if letter == "o" and not value else 1
        else:
            return own, [word, *rest]
        own += words[i : i + step]
        i += step
    return own, []


def _cluster(letters: str) -> tuple[list[str], str, str]:
    """Short options in one word: flags, the letter that takes a value if any, and the value."""
    for i, letter in enumerate(letters):
        if letter in "om":
            return ([f"-{letters[:i]}"] if i else []), letter, letters[i + 1 :]
    return [f"-{letters}"], "", ""


def _module_apart(words: list[str]) -> list[str]:
    """The same words, with ``-mpackage`` written as ``-m package``."""
    if words and words[0].startswith("-m") and len(words[0]) > 2:
        return ["-m", words[0][2:], *words[1:]]
    return words


def check_script(target: str) -> None:
    """Refuses a script that python could not start either."""
    if "\0" in target or not os.path.exists(target):
        raise NotFound(f"no such script: {target}")
    if os.path.isdir(target) and not os.path.isfile(os.path.join(target, "__main__.py")):
        raise NotFound(f"no such script: {target} is a folder without a __main__.py")


def check_module(target: str) -> None:
    """Refuses a module whose first package nobody can find; the rest is python's to say."""
    from importlib.util import find_spec

    first = target.partition(".")[0]
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        found = find_spec(first) if first else None
    except (ImportError, ValueError):
        found = None
    finally:
        sys.path[:] = before
    if found is None and first != "__main__":
        raise NotFound(f"no such module: {target}")
