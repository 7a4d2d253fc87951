"""``defib diagnose``: the judgement again, from the record."""

import argparse

from defib.cli.answer import answer
from defib.cli.command import Command
from defib.core.diagnosis import Diagnosis, Verdict
from defib.core.finding import Severity


class Diagnose(Command):
    """Say what is wrong with a recorded run.

    Reads the record only: no torch, no training script. With --json the answer is
    exactly one JSON object on stdout. Exit code 0; with --fail-on, 1 when a finding
    is at least that severe, or when too little was seen to judge.
    """

    name = "diagnose"
    order = 20

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("record", metavar="RUN", help="the record's folder, or one of its files")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
        parser.add_argument(
            "--fail-on",
            choices=[s.value for s in Severity],
            help="exit with 1 when a finding is at least this severe",
        )

    def run(self, options: argparse.Namespace) -> int:
        from defib import api
        from defib.report.text import to_text

        diagnosis = api.diagnose(options.record)
        answer(diagnosis, to_text, as_json=options.json)
        return int(options.fail_on is not None and _fails(diagnosis, Severity(options.fail_on)))


def _fails(diagnosis: Diagnosis, limit: Severity) -> bool:
    """A gate stays shut for a bad finding, and for a run that nobody could look at."""
    unseen = diagnosis.verdict == Verdict.NOT_OBSERVED
    return unseen or any(f.severity.rank <= limit.rank for f in diagnosis.findings)
