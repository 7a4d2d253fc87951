"""``defib compare``: what changed between two runs."""

import argparse
from pathlib import Path

from defib.cli.answer import answer
from defib.cli.command import Command
from defib.core.errors import UsageError


class Compare(Command):
    """Say what changed between two recorded runs.

    Findings that are gone, new and the same, verdicts, loss and logged numbers, and
    settings that differ. With one run only, that run before and since its last
    treatment. Reads the records only. A finding counts as gone only where enough was
    seen to find it. With -o the answer is also drawn into one HTML page, the curves
    laid over each other. Exit code 0; with --fail-on-new, 1 when B has a cause of
    trouble (warning or worse) that A has not, or too little was seen of B to judge.
    """

    name = "compare"
    order = 26

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("before", metavar="A", help="a record's folder, or one of its files")
        add("after", metavar="B", nargs="?", help="another one (left out: A since its last treatment)")
        add("-o", "--output", metavar="FILE", help="draw it into this HTML file")
        add("-f", "--force", action="store_true", help="replace FILE")
        add("--json", action="store_true", help="one JSON object instead of text")
        add("--fail-on-new", action="store_true", help="exit with 1 when B has a new cause of trouble")

    def run(self, options: argparse.Namespace) -> int:
        if options.output == "":
            raise UsageError("-o needs a path that is not empty")
        from defib.comparisons import compare, worse
        from defib.report.comparison import comparison_text

        comparison = compare(options.before, options.after)
        if options.output is not None:
            from defib.report.comparison_page import comparison_page
            from defib.report.whole import write_text

            write_text(Path(options.output), comparison_page(comparison), force=options.force)
        answer(comparison, comparison_text, as_json=options.json)
        return int(options.fail_on_new and worse(comparison))
