"""`defib run`: the user's unmodified script under watch.

The process *becomes* ``python script.py args...`` (same process id, signals, exit
code, standard streams), with one folder put in front of ``PYTHONPATH`` whose
``sitecustomize`` undoes that, hands over to the real ``sitecustomize``, and asks
to be called back when torch has been imported. Child processes see nothing of it.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from defib.core.errors import EnvironmentProblem, OutputError
from defib.core.launch_options import LaunchOptions, default_record

OPTIONS = "DEFIB_LAUNCH"
"""Environment variable that carries the options over the exec; removed before the script starts."""

BEFORE = "DEFIB_LAUNCH_PATH"
"""The user's own PYTHONPATH, if there is one; removed likewise."""

BOOTSTRAP = Path(__file__).parent / "bootstrap"


@dataclass(frozen=True, kw_only=True)
class Launched:
    """What the process that was ``defib run`` tells the script's process that it becomes.

    Attributes:
        target: The script's path, or the module's dotted name.
        count: How many arguments follow it.
        output: The record's folder, absolute.
        folder: Where ``defib run`` was typed: its settings hold, wherever the script goes.
        budget: Share of the training time that watching may cost.
        every: Steps between readings; None leaves it to the governor.
        quiet: Say nothing at the end.
        force: Replace a record that is already there.
        treat: Treatments to give.
        treat_at: Optimiser step at which those that are named are given.
        seed_shift: Added to every seed that the script sets.
        stop_at: Optimiser step after which the script is ended.
        race: File with the losses of a control run that it has to beat, absolute; None for none.
        autopsy: MiB that an autopsy may keep of the last steps; None for no autopsies.
        keep_inputs: Keep samples of what feeds a layer in the record.
        curvature: Measure the largest curvature of the loss on some steps.
    """

    target: str
    count: int
    output: Path
    folder: Path
    budget: float
    every: int | None
    quiet: bool
    force: bool
    treat: tuple[str, ...] = ()
    treat_at: int = 0
    seed_shift: int | None = None
    stop_at: int | None = None
    race: str | None = None
    autopsy: int | None = None
    keep_inputs: bool = True
    curvature: bool = False

    def to_text(self) -> str:
        """One line for the environment; it does not grow with the script's arguments."""
        return json.dumps(vars(self), default=str)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The inverse of :meth:`to_text`."""
        values = json.loads(text)
        return cls(**values | {name: Path(values[name]) for name in ("output", "folder")})

    @property
    def arguments(self) -> tuple[str, ...]:
        """The script's arguments, as this process was given them."""
        return tuple(sys.orig_argv[len(sys.orig_argv) - self.count :])


def exec_script(options: LaunchOptions) -> NoReturn:
    """Become the user's script, under watch.

    Raises:
        OutputError: If no record can be made at the place asked for.
        EnvironmentProblem: If this python ignores its environment (-I, -E or -S), or cannot
            start another.
    """  # noqa: DOC502 - the check of the place raises it
    if sys.flags.ignore_environment or sys.flags.no_site:
        raise EnvironmentProblem("python was started with -I, -E or -S: run defib without them")
    launched = _launched(options)
    if os.environ.get("RANK", "0") == "0":
        _check_place(launched.output, options.force)
    before = os.environ.get("PYTHONPATH")
    environment = {**os.environ, OPTIONS: launched.to_text()}
    environment["PYTHONPATH"] = os.pathsep.join([str(BOOTSTRAP), *filter(None, [before])])
    if before is not None:
        environment[BEFORE] = before
    target = ["-m", options.target] if options.is_module else [options.target]
    command = [sys.executable, *interpreter_options(sys.orig_argv), *target, *options.arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(sys.executable, command, environment)
    except OSError as error:
        raise EnvironmentProblem(f"cannot start {sys.executable}: {error.strerror or error}") from None


def _launched(options: LaunchOptions) -> Launched:
    """The options as plain data, every path absolute: the script may go elsewhere."""
    try:
        folder = Path.cwd()
    except OSError:
        raise EnvironmentProblem("the current folder does not exist any more: go to another one") from None
    return Launched(
        target=options.target,
        count=len(options.arguments),
        output=Path(os.path.abspath(options.output or default_record(options.target))),
        folder=folder,
        budget=options.budget,
        every=options.every,
        quiet=options.quiet,
        force=options.force,
        treat=options.treat,
        treat_at=options.treat_at,
        seed_shift=options.seed_shift,
        stop_at=options.stop_at,
        race=None if options.race is None else os.path.abspath(options.race),
        autopsy=options.autopsy,
        keep_inputs=options.keep_inputs,
        curvature=options.curvature,
    )


def interpreter_options(command: Sequence[str]) -> list[str]:
    """What stood between ``python`` and ``-m defib`` or defib's script: -u, -W, -X and so on.

    Args:
        command: ``sys.orig_argv``.

    Returns:
        The options, for another python to take.
    """
    found: list[str] = []
    words = iter(command[1:])
    for word in words:
        if not word.startswith("-") or word in {"-", "--"}:
            break
        if word.startswith("--"):
            found += [word, next(words, "")] if word == "--check-hash-based-pycs" else [word]
            continue
        flags, last = _cluster(word[1:])
        if last in {"m", "c"}:
            return found + ([f"-{flags}"] if flags else [])
        found.append(word)
        if last and len(word) == len(flags) + 2:  # its value is a word of its own
            found.append(next(words, ""))
    return found


def _cluster(letters: str) -> tuple[str, str]:
    """Short options in one word: those without a value, and the one that takes one, if any."""
    for i, letter in enumerate(letters):
        if letter in "mcWX":
            return letters[:i], letter
    return letters, ""


def _check_place(output: Path, force: bool) -> None:
    """Refuse before the script starts if a record cannot be made there; leaves nothing behind."""
    if os.path.lexists(output) and not force:
        raise OutputError(f"{output} exists already: name another place with -o, or replace a record with -f")
    if os.path.lexists(output) and (output.is_symlink() or not (output / "meta.json").is_file()):
        raise OutputError(f"{output} is not a record, it is left alone: name another place with -o")
    trial = output.with_name(f"{output.name}.{os.getpid()}.try")
    try:
        made = [p for p in (output.parent, *output.parent.parents) if not p.exists()]
        trial.mkdir(parents=True)
        trial.rmdir()
        for parent in made:
            parent.rmdir()
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot make a record at {output}: {reason}; name another place with -o") from None
