"""``defib prescribe``: what could help a recorded run."""

import argparse

from defib.cli.answer import answer
from defib.cli.command import Command


class Prescribe(Command):
    """List treatments for what a run suffers from, the most promising first.

    Reads the record only and changes nothing. Each treatment comes with its reason,
    with what it does to the network, with a dose computed from the evidence, and
    with the command that gives it. What only the source can change is shown as a
    patch. With --json the answer is one JSON object; defib run --treat @FILE takes
    it, and gives the first treatment of each finding.
    """

    name = "prescribe"
    order = 24

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("record", metavar="RUN", help="the record's folder, or one of its files")
        parser.add_argument("--only", metavar="SLUG", help="this treatment only")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of text")

    def run(self, options: argparse.Namespace) -> int:
        from defib import api
        from defib.report.prescription import plan_text

        plan = api.plan(options.record, only=options.only)
        answer(plan, plan_text, as_json=options.json)
        return 0
