"""``defib rules``: what is judged."""

import argparse
import sys

from defib.cli.command import Command


class Rules(Command):
    """List the rules that a run is judged by.

    Each with its slug, the word that scorers read, and one line. `defib explain
    SLUG` prints a rule's page.
    """

    name = "rules"
    order = 40

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="a JSON list instead of a table")

    def run(self, options: argparse.Namespace) -> int:
        from defib import catalogues
        from defib.report.terminal import say

        rules = catalogues.rules()
        if options.json:
            import json

            text = json.dumps(
                [{"rule": r.slug, "fault": r.fault.value, "title": r.title} for r in rules], indent=2
            )
        else:
            rows = [(r.slug, r.fault.value, r.title) for r in rules]
            text = _table(("RULE", "FAULT", "IT FINDS"), rows)
        say(text, sys.stdout)
        return 0


def _table(head: tuple[str, str, str], rows: list[tuple[str, str, str]]) -> str:
    """Rows in columns; the last one is wrapped within 80 columns."""
    import textwrap

    first, second = (max(len(row[i]) for row in (head, *rows)) + 2 for i in (0, 1))
    lines = []
    for slug, fault, title in (head, *rows):
        begin = f"{slug:<{first}}{fault:<{second}}"
        lines += textwrap.wrap(begin + title, 80, subsequent_indent=" " * len(begin), drop_whitespace=True)
    return "\n".join(lines)
