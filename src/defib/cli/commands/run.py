"""``defib run``: an unmodified training script under watch."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from defib.cli.command import Command
from defib.core.config import load_settings, parse_budget, parse_every
from defib.core.errors import NotFound, UsageError
from defib.core.launch_options import LaunchOptions, default_record

_LONG_WITH_VALUE = ("--output", "--budget", "--every")


class Run(Command):
    """Run a training script under watch, unchanged.

    The script runs exactly as `python script.py args...` or `python -m module
    args...` would run it; everything after it belongs to it. At its end the
    findings are printed on stderr. The exit code is the script's own.
    """

    name = "run"
    order = 10
    usage = (
        "defib run [-o PATH] [--budget 1%%] [--every N] [-q] [-f] [--]\n"
        "                 (script.py | -m module) args..."
    )

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("-o", "--output", metavar="PATH", help="the record's folder (defib-<script>.<pid>.rec)")
        add("--budget", metavar="SHARE", help="share of the time that watching may cost (1%%)")
        add("--every", metavar="N", help="read activations every N steps (as the budget allows)")
        add("-q", "--quiet", action="store_true", help="say nothing at the end")
        add("-f", "--force", action="store_true", help="replace a record at PATH")

    @classmethod
    def divide(cls, words: Sequence[str]) -> tuple[list[str], list[str]]:
        return divide(words)

    def run(self, options: argparse.Namespace) -> int:
        launch = _understood(options)
        (_check_module if launch.is_module else _check_script)(launch.target)

        from defib.capture.launch import exec_script

        exec_script(launch)


def divide(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Cuts a command line where the script's part begins, as python itself would.

    argparse cannot: it would take the script's ``-o``, ``-q`` and ``--`` for ours.

    Args:
        words: What follows ``defib run``.

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
            step = 1 if "=" in word or word not in _LONG_WITH_VALUE else 2
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


def _understood(options: argparse.Namespace) -> LaunchOptions:
    """The command line together with the settings."""
    rest: list[str] = options.rest
    is_module = rest[:1] == ["-m"]
    if len(rest) < 1 + is_module or not rest[is_module]:
        raise UsageError("no script given (defib run train.py, or defib run -m package.module)")
    settings = load_settings()
    output = None if options.output is None else Path(options.output)
    if options.output == "":
        raise UsageError("-o needs a path that is not empty")
    if output is None and settings.output is not None:
        output = default_record(rest[is_module], settings.output)
    return LaunchOptions(
        target=rest[is_module],
        is_module=is_module,
        arguments=tuple(rest[1 + is_module :]),
        output=output,
        budget=settings.budget if options.budget is None else parse_budget(options.budget),
        every=settings.every if options.every is None else parse_every(options.every),
        quiet=options.quiet or settings.quiet,
        force=options.force,
    )


def _check_script(target: str) -> None:
    """Refuses a script that python could not start either."""
    if "\0" in target or not os.path.exists(target):
        raise NotFound(f"no such script: {target}")
    if os.path.isdir(target) and not os.path.isfile(os.path.join(target, "__main__.py")):
        raise NotFound(f"no such script: {target} is a folder without a __main__.py")


def _check_module(target: str) -> None:
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
