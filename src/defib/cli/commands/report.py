"""``defib report``: a run as one HTML file."""

import argparse
import shlex
import sys

from defib.cli.command import Command


class Report(Command):
    """Write a run's report: one HTML file that needs no network.

    It opens with the verdict, then each finding with its evidence, prognosis and
    what to do, then the network layer by layer and over time, what was and was not
    seen, and what watching cost. Reads the record only. Prescriptions are worked
    out where something is wrong and torch is installed (it is imported for them
    alone). A file that is there is replaced if it is a report of defib's own, or
    with -f. Exit code 0; 73 if the file cannot be written.
    """

    name = "report"
    order = 21

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("record", metavar="RUN", help="the record's folder, or one of its files")
        parser.add_argument(
            "-o", "--output", metavar="FILE", default="report.html", help="default: report.html"
        )
        parser.add_argument("-f", "--force", action="store_true", help="replace whatever FILE is now")
        parser.add_argument(
            "--no-treatments", action="store_true", help="no prescriptions: torch is not imported"
        )

    def run(self, options: argparse.Namespace) -> int:
        from defib.report.terminal import say
        from defib.report.wording import escaped
        from defib.views import write_report

        path = write_report(
            options.record,
            options.output,
            force=options.force,
            treatments=not options.no_treatments,
            command=f"defib report {shlex.quote(options.record)}",
        )
        say(f"report    {escaped(str(path))}", sys.stdout)
        return 0
