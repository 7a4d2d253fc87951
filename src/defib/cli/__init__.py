"""The ``defib`` command. Each subcommand is a class in a file of ``commands``.

Exit codes: 0; what the command itself defines (``diagnose --fail-on`` gives 1);
those of ``core.errors`` with one line on stderr; 130 after Ctrl-C; 141 when the
reader of a pipe went away.
"""

import argparse
import contextlib
import difflib
import inspect
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import NoReturn

from defib.cli.command import Command
from defib.core.catalogue import entries
from defib.core.errors import DefibError, UsageError
from defib.report.lines import WIDTH
from defib.report.terminal import encoding_of, say
from defib.report.wording import escaped, spelt_in

_DESCRIPTION = "Finds out why a neural network stopped learning, and proves it."
_EPILOG = "`defib COMMAND --help` says more. Start with: defib run train.py"
_INTERRUPTED, _PIPE_CLOSED, _INTERNAL = 130, 141, 70


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line and whose exit code is ours."""

    def error(self, message: str) -> NoReturn:
        """Refuses a command line.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{message} (`{self.prog} --help` says more)")

    def _print_message(self, message: str, file: object = None) -> None:
        # argparse would swallow a full disk here and report success.
        del file
        say(message.rstrip("\n"), sys.stdout)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help of 80 columns, or fewer where the terminal has fewer."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=min(WIDTH, shutil.get_terminal_size().columns) - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Paragraphs of prose broken anew; what is indented stays as it is."""
        blocks = inspect.cleandoc(text).split("\n\n")
        filled = (
            b if "\n " in b or b[:1] == " " else textwrap.fill(b, width, break_on_hyphens=False)
            for b in blocks
        )
        return textwrap.indent("\n\n".join(filled), indent)


class Version(argparse.Action):
    """Prints the version; reading it from the metadata costs time, so only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_unused: object) -> None:
        import defib

        say(f"defib {defib.__version__}", sys.stdout)
        parser.exit()


def subcommands() -> dict[str, type[Command]]:
    """Every subcommand by name, in the order of ``defib --help``."""
    # Not called `commands`: the folder of that name would take its place once it is imported.
    found = entries(Command, "defib.cli.commands")  # type: ignore[type-abstract]
    return {command.name: command for command in sorted(found, key=lambda c: c.order)}


def build_parser(known: dict[str, type[Command]]) -> Parser:
    """The command line with its subcommands."""
    parser = Parser(
        prog="defib", description=_DESCRIPTION, epilog=_EPILOG, allow_abbrev=False, formatter_class=_Help
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version and stop")
    several = parser.add_subparsers(metavar="COMMAND", dest="name", parser_class=Parser)
    for command in known.values():
        page = inspect.getdoc(command) or ""
        own = several.add_parser(
            command.name,
            help=page.splitlines()[0].rstrip("."),
            description=page,
            usage=command.usage,
            allow_abbrev=False,
            formatter_class=_Help,
        )
        command.add_arguments(own)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        argv: Words after ``defib``; None for those of this process.

    Returns:
        The exit code. Errors are told in one line on stderr, never in a traceback
        unless ``DEFIB_DEBUG`` is set.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        _have_streams()
        with spelt_in(encoding_of(sys.stdout)):
            code = _dispatch(words)
    except KeyboardInterrupt as error:
        return _refuse(_interruption(words), error, _INTERRUPTED)
    except BrokenPipeError:
        _drop_stdout()
        return _PIPE_CLOSED
    except DefibError as error:
        return _refuse(f"defib: {error}", error, error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last line of defence
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return _refuse(f"defib: internal error: {said} (DEFIB_DEBUG=1 shows the traceback)", error, _INTERNAL)
    return code


def _dispatch(words: list[str]) -> int:
    """Finds the command and runs it."""
    known = subcommands()
    parser = build_parser(known)
    own: list[str] = words
    rest: list[str] = []
    if words and not words[0].startswith("-"):
        own, rest = _command(words[0], known).divide(words[1:])
        own = [words[0], *own]
    try:
        options = parser.parse_args(own)
    except SystemExit as done:  # --help and --version have printed their answer
        return int(done.code or 0)
    if options.name is None:
        raise UsageError("no command given (`defib --help` lists them; start with: defib run train.py)")
    options.rest = rest
    return known[options.name]().run(options)


def _command(word: str, known: dict[str, type[Command]]) -> type[Command]:
    """The command of that name, or a complaint that names the nearest."""
    if word in known:
        return known[word]
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    hint = f"did you mean `defib {near[0]}`?" if near else f"there are {', '.join(known)}"
    raise UsageError(f"no such command: {word}; {hint}")


def _interruption(words: Sequence[str]) -> str:
    """What Ctrl-C did and what it leaves; a terminal that shows ^C gets a new line first."""
    with contextlib.suppress(OSError, DefibError):
        if sys.stderr.isatty():
            say("", sys.stderr)
    command = subcommands().get(words[0]) if words else None
    kept = command.kept if command else ""
    return "defib: stopped by Ctrl-C" + (f"; {kept}" if kept else "")


def _refuse(line: str, error: BaseException, code: int) -> int:
    """Says in one line what went wrong."""
    try:
        sys.stdout.flush()
    except OSError:  # a full disk: what it cannot take is lost, and the line below says so
        _drop_stdout()
    with contextlib.suppress(OSError, DefibError):  # if stderr is closed there is nobody to tell
        if os.environ.get("DEFIB_DEBUG"):
            import traceback

            traceback.print_exception(error)
        with spelt_in(encoding_of(sys.stderr)):
            say(escaped(line), sys.stderr)
    return code


def _have_streams() -> None:
    """Gives a process that was started with closed streams somewhere to write to."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - kept for life


def _drop_stdout() -> None:
    """Lets the interpreter's last flush at exit go nowhere instead of complaining."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
