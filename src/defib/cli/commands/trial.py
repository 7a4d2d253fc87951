"""``defib trial``: does a treatment help this script? A controlled comparison."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from defib.cli.command import Command
from defib.cli.target import check_module, check_script, divide
from defib.core.errors import OutputError, UsageError

_LONG_WITH_VALUE = ("--output", "--arms", "--seeds", "--budget", "--metric", "--goal", "--on", "--jobs")


class Trial(Command):
    """Run a script under a control arm and under each treatment, and compare.

    The script runs unchanged, each time in a process of its own: as it is, with
    each treatment given before its first step, and with treatments drawn at random
    as an honest baseline. What a treated run still suffers from is treated in
    addition: a course of up to three. Arms are paired by seed and data order. The
    answer for each is better, worse or undecided, with its interval. A trial that
    was killed goes on where it was when the same command is typed again.
    """

    name = "trial"
    order = 50
    kept = "runs that are complete are kept: the same command goes on where it was"
    usage = (
        "defib trial [-o DIR] [--arms A,B] [--seeds N] [--budget 2x]\n"
        "                   [--metric WHAT] [--goal lower|higher] [--on local|ray]\n"
        "                   [--jobs N] [--no-random] [--json] [--]\n"
        "                   (script.py | -m module) args..."
    )

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("-o", "--output", metavar="DIR", help="the trial's folder (defib-trial-<script>)")
        add("--arms", metavar="A,B", default="auto", help="auto, or treatments: SLUG[:key=value,...];SLUG...")
        add("--seeds", metavar="N", default="3", help="seeds of each arm (3)")
        add("--budget", metavar="2x", default="2x", help="treated runs of one seed, in plain runs (2x)")
        add(
            "--metric", metavar="WHAT", help="regex with a group for stdout, or a logged name (training loss)"
        )
        add("--goal", metavar="WAY", help="lower or higher is better (told by the metric's name)")
        add("--on", metavar="WHERE", default="local", help="local, ray or ray://host:port (local)")
        add("--jobs", metavar="N", default="1", help="runs at a time (1)")
        add("--no-random", action="store_true", help="leave the random-repair arm out")
        add("--json", action="store_true", help="one JSON object instead of text")

    @classmethod
    def divide(cls, words: Sequence[str]) -> tuple[list[str], list[str]]:
        return divide(words, _LONG_WITH_VALUE)

    def run(self, options: argparse.Namespace) -> int:
        rest: list[str] = options.rest
        is_module = rest[:1] == ["-m"]
        if len(rest) < 1 + is_module:
            raise UsageError("no script given (defib trial train.py, or defib trial -m package.module)")
        target = rest[is_module]
        (check_module if is_module else check_script)(target)

        from defib.report.json import to_json
        from defib.report.terminal import say, style_of
        from defib.report.trial import trial_text
        from defib.report.wording import shown
        from defib.trials.design import Script, parse_measure
        from defib.trials.runner import Request, conduct

        stem = Path(target).stem if not is_module else target
        request = Request(
            script=Script(
                target=target, is_module=is_module, arguments=tuple(rest[1 + is_module :]), folder=os.getcwd()
            ),
            measure=parse_measure(options.metric, options.goal),
            arms=() if options.arms == "auto" else tuple(filter(None, _arms(options.arms))),
            seeds=_positive("--seeds", options.seeds),
            budget=_times(options.budget),
            random=not options.no_random,
        )
        folder = Path(options.output or f"defib-trial-{stem}")
        try:
            verdict = conduct(request, folder, on=options.on, jobs=_positive("--jobs", options.jobs))
        except OSError as error:  # of its own files: what goes wrong in a run is that run's outcome
            why = error.strerror or error
            raise OutputError(
                f"the trial in {shown(str(folder), 160)} cannot go on: {why}; {self.kept}"
            ) from None
        text = to_json(verdict) if options.json else trial_text(verdict, style_of(sys.stdout))
        say(text, sys.stdout)
        return 0


def _arms(text: str) -> list[str]:
    """Treatments apart: at semicolons, and at commas where no dose is given."""
    if ";" in text or ":" in text:
        return text.split(";")
    return text.split(",")


def _positive(option: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{option} takes a whole number from 1, not {text!r}")
    return int(text)


def _times(text: str) -> float:
    """A budget: "2x" or "2"."""
    try:
        times = float(text.removesuffix("x"))
    except ValueError:
        times = 0.0
    if not 0 < times < float("inf"):
        raise UsageError(f"--budget is a multiple of a plain run like 2x, not {text!r}")
    return times
