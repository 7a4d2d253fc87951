"""``defib lab``: every claim about zero derivatives, tested in front of the user."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from defib.cli.answer import whole
from defib.cli.command import Command
from defib.core.errors import UsageError

if TYPE_CHECKING:
    from defib.lab.result import Order

_FOLDER = "defib-lab"
_ACTIONS = ("run", "show", "report", "scoreboard")
_FAILED = 1


class Lab(Command):
    """Test the claims about dying units and zero gradients by experiment.

    Without a word after it, lists the experiments by topic. `run NAME` (or `run
    all`) measures: the verdict on each claim is computed from the numbers and
    their intervals. Seeds and dials can be changed. A lab that was stopped goes on
    where it was. `show NAME` prints what is claimed, predicted and done; `report`
    writes one page of everything in the folder; `scoreboard` says how often each
    rule of defib finds planted faults, and is silent on healthy runs. Exit code 1
    if an experiment broke.
    """

    name = "lab"
    order = 70
    kept = "what was measured is kept: the same command goes on where it was"
    usage = (
        "defib lab [--json]\n"
        "       defib lab run (NAME... | all) [--seed N] [--seeds K]\n"
        "                 [--scale quick|small|paper] [--set KEY=VALUE]...\n"
        "                 [--jobs N] [-o DIR] [--json]\n"
        "       defib lab show NAME\n"
        "       defib lab report [-o FILE]\n"
        "       defib lab scoreboard [PATHOLOGY...] [--seed N] [--seeds K]\n"
        "                 [--jobs N] [-o DIR] [--json]"
    )

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("words", nargs="*", metavar="run|show|report|scoreboard NAME", help="what to do; nothing to list")
        add("--seed", default="0", metavar="N", help="first seed, or draw of the scoreboard (0)")
        add("--seeds", default="1", metavar="K", help="seeds; a verdict must be the same for all (1)")
        add("--scale", default="small", metavar="SCALE", help="quick, small or paper (small)")
        add("--set", action="append", default=[], metavar="KEY=VALUE", help="a dial of the experiment")
        add("--jobs", default="0", metavar="N", help="experiments at a time (one a core)")
        add("-o", "--output", metavar="PATH", help=f"folder of results ({_FOLDER}), or the report's file")
        add("--from", dest="source", metavar="DIR", help=f"report: folder of results ({_FOLDER})")
        add("--json", action="store_true", help="JSON instead of text")

    def run(self, options: argparse.Namespace) -> int:
        action, *names = options.words or ["list"]
        if action == "list" and not names:
            return _list(options)
        if action not in _ACTIONS:
            raise UsageError(f"defib lab {action}: there are {', '.join(_ACTIONS)}, or nothing to list")
        return {"run": _run, "show": _show, "report": _report, "scoreboard": _scoreboard}[action](
            names, options
        )


def _list(options: argparse.Namespace) -> int:
    from defib.lab.index import experiments
    from defib.lab.text import as_data, listing
    from defib.report.terminal import say

    known = experiments().values()
    say(_json({"experiments": as_data(known)}) if options.json else listing(known), sys.stdout)
    return 0


def _show(names: list[str], options: argparse.Namespace) -> int:
    from defib.lab.index import claims, experiment
    from defib.lab.text import about, as_data
    from defib.report.terminal import say, style_of

    if len(names) != 1:
        raise UsageError("defib lab show takes one experiment (`defib lab` lists them)")
    cls = experiment(names[0])
    text = _json(as_data([cls])[0]) if options.json else about(cls, claims(), style_of(sys.stdout))
    say(text, sys.stdout)
    return 0


def _run(names: list[str], options: argparse.Namespace) -> int:
    from defib.lab.index import claims, experiments
    from defib.lab.progress import with_bars
    from defib.lab.result import Result, plain
    from defib.lab.text import found, summary
    from defib.report.terminal import say, style_of

    if not names:
        raise UsageError("defib lab run takes experiments, or all (`defib lab` lists them)")
    chosen = list(experiments()) if names == ["all"] else names
    orders = _orders(chosen, options)
    results: dict[str, list[Result]] = {}
    broken = 0
    for done in with_bars(orders, Path(options.output or _FOLDER), whole("--jobs", options.jobs, 0)):
        if not isinstance(done, Result):
            broken += 1
            say(f"defib: {done.order.slug}, seed {done.order.seed}: {done.why}", sys.stderr)
            continue
        of_this = results.setdefault(done.order.slug, [])
        of_this.append(done)
        of_this.sort(key=lambda result: result.order.seed)
        if not options.json and len(of_this) == sum(order.slug == done.order.slug for order in orders):
            say(found(of_this, claims(), style_of(sys.stdout)) + "\n", sys.stdout)
    every = [result for of in results.values() for result in of]
    if options.json:
        say(_json({"results": [plain(result) for result in every]}), sys.stdout)
    elif len(results) > 1:
        say(summary(every, claims()), sys.stdout)
    return _FAILED if broken else 0


def _report(names: list[str], options: argparse.Namespace) -> int:
    from defib.lab.page import write
    from defib.report.terminal import say

    if names:
        raise UsageError(f"defib lab report takes no word more, not {names[0]!r}")
    where = write(Path(options.source or _FOLDER), Path(options.output or "lab.html"))
    say(f"wrote {where}", sys.stdout)
    return 0


def _scoreboard(names: list[str], options: argparse.Namespace) -> int:
    from defib.lab.boardtext import markdown
    from defib.lab.proving import as_data, present
    from defib.report.terminal import say

    found = present(
        names,
        draws=whole("--seeds", options.seeds, 1),
        first=whole("--seed", options.seed, 0),
        folder=Path(options.output or f"{_FOLDER}/scoreboard"),
        jobs=whole("--jobs", options.jobs, 0),
        told=lambda line: say(line, sys.stderr),
    )
    say(_json(as_data(found)) if options.json else markdown(found), sys.stdout)
    return _FAILED if found.left_out["the pair broke"] else 0


def _orders(slugs: list[str], options: argparse.Namespace) -> "list[Order]":
    """One for each experiment and seed; every word is checked before anything runs."""
    from defib.lab.dials import Scale, choose
    from defib.lab.index import experiment
    from defib.lab.result import Order

    if options.scale not in set(Scale):
        raise UsageError(f"--scale is quick, small or paper, not {options.scale!r}")
    scale = Scale(options.scale)
    overrides = dict(_pair(text) for text in options.set)
    first, count = whole("--seed", options.seed, 0), whole("--seeds", options.seeds, 1)
    for slug in slugs:
        choose(experiment(slug).dials, scale, overrides)
    return [
        Order(slug=slug, seed=seed, scale=scale, overrides=overrides)
        for slug in dict.fromkeys(slugs)
        for seed in range(first, first + count)
    ]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--set takes KEY=VALUE, not {text!r}")
    return name, value


def _json(value: object) -> str:
    import json

    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
