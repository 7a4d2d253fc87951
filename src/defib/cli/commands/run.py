"""``defib run``: an unmodified training script under watch."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from defib.cli.command import Command
from defib.cli.target import check_module, check_script, divide
from defib.core.config import load_settings, parse_budget, parse_every
from defib.core.errors import UsageError
from defib.core.launch_options import LaunchOptions, default_record

_LONG_WITH_VALUE = (
    "--output",
    "--budget",
    "--every",
    "--treat",
    "--treat-at",
    "--seed-shift",
    "--stop-at",
    "--race",
)


class Run(Command):
    """Run a training script under watch, unchanged.

    The script runs exactly as `python script.py args...` or `python -m module
    args...` would run it; everything after it belongs to it. At its end the
    findings are printed on stderr. The exit code is the script's own.
    """

    name = "run"
    order = 10
    usage = (
        "defib run [-o PATH] [--budget 1%%] [--every N] [--autopsy]\n"
        "                 [--curvature] [--treat WHAT] [--no-inputs] [-q] [-f] [--]\n"
        "                 (script.py | -m module) args..."
    )

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("-o", "--output", metavar="PATH", help="the record's folder (defib-<script>.<pid>.rec)")
        add("--budget", metavar="SHARE", help="share of the time that watching may cost (1%%)")
        add("--every", metavar="N", help="read activations every N steps, whatever it costs")
        add("--treat", metavar="WHAT", action="append", default=[], help="auto, or SLUG[:key=value,...]")
        add("--treat-at", metavar="N", help="optimiser step of a named treatment (0: before the first)")
        add("--seed-shift", metavar="N", help="add N to every seed that the script sets")
        add("--stop-at", metavar="N", help="end the script after N optimiser steps")
        add("--race", metavar="FILE", help="end the script where it does not beat the control run in FILE")
        add("--autopsy", action="store_true", help="keep the last steps, to say what a unit died of")
        add("--curvature", action="store_true", help="measure rate x curvature of the loss on some steps")
        add("--no-inputs", action="store_true", help="keep no sample of the data in the record")
        add("-q", "--quiet", action="store_true", help="say nothing at the end")
        add("-f", "--force", action="store_true", help="replace a record at PATH")

    @classmethod
    def divide(cls, words: Sequence[str]) -> tuple[list[str], list[str]]:
        return divide(words, _LONG_WITH_VALUE)

    def run(self, options: argparse.Namespace) -> int:
        launch = _understood(options)
        (check_module if launch.is_module else check_script)(launch.target)

        from defib.capture.launch import exec_script

        exec_script(launch)


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
        treat=_treatments(options.treat),
        treat_at=_whole("--treat-at", options.treat_at) or 0,
        seed_shift=_whole("--seed-shift", options.seed_shift),
        stop_at=_whole("--stop-at", options.stop_at),
        race=_raced(options.race),
        autopsy=settings.autopsy_memory if options.autopsy or settings.autopsy else None,
        keep_inputs=settings.keep_inputs and not options.no_inputs,
        curvature=options.curvature or settings.curvature,
    )


def _treatments(words: Sequence[str]) -> tuple[str, ...]:
    """Refuses now what would otherwise be found out in the middle of the script."""
    if words:
        from defib.orders import check_order

        check_order(words)
    return tuple(f"@{os.path.abspath(w[1:])}" if w.startswith("@") else w for w in words)


def _raced(path: str | None) -> Path | None:
    """A control run's losses, as ``defib trial`` writes them."""
    if path is None:
        return None
    from defib.trials.race import from_file

    try:
        from_file(Path(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"--race {path}: not a control run's losses ({error})") from None
    return Path(path)


def _whole(option: str, text: str | None) -> int | None:
    if text is not None and not text.isdecimal():
        raise UsageError(f"{option} takes a whole number from 0, not {text!r}")
    return None if text is None else int(text)
