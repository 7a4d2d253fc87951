"""``defib treatments``: what can be done about findings."""

import argparse
import sys
import textwrap

from defib.cli.command import Command


class Treatments(Command):
    """List the treatments, and what each does to a network.

    `defib explain SLUG` prints a treatment's page, `defib prescribe RUN` those that
    a run needs, `defib run --treat SLUG` gives one.
    """

    name = "treatments"
    order = 42

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="a JSON list instead of a table")

    def run(self, options: argparse.Namespace) -> int:
        from defib import catalogues
        from defib.report.terminal import say

        found = sorted(catalogues.treatments(), key=lambda t: (t.safety.rank, t.slug))
        if options.json:
            import json

            entries = [
                {
                    "treatment": t.slug,
                    "safety": t.safety.value,
                    "title": t.title,
                    "rules": sorted({i.rule for i in t.indications}),
                }
                for t in found
            ]
            say(json.dumps(entries, indent=2), sys.stdout)
            return 0
        rows = [("TREATMENT", "SAFETY", "IT DOES"), *((t.slug, t.safety.value, t.title) for t in found)]
        first, second = (max(len(row[i]) for row in rows) + 2 for i in (0, 1))
        lines: list[str] = []
        for slug, safety, title in rows:
            begin = f"{slug:<{first}}{safety:<{second}}"
            lines += textwrap.wrap(begin + title, 80, subsequent_indent=" " * len(begin))
        say("\n".join(lines), sys.stdout)
        return 0
