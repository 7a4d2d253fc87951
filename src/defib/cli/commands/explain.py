"""``defib explain``: the page of a rule, a cause, a treatment or an error."""

import argparse
import sys

from defib.cli.command import Command


class Explain(Command):
    """Print the page of a rule, a cause, a treatment or an error.

    A rule's page says what is measured, why it hurts, what causes it, how it goes
    on, and when it is a false alarm; a treatment's what it does, when it helps and
    when it does not.
    """

    name = "explain"
    order = 30

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("slug", metavar="SLUG", help="for example dead-unit, or born-dead")

    def run(self, options: argparse.Namespace) -> int:
        from defib import catalogues
        from defib.report.terminal import say

        say(catalogues.explain(options.slug), sys.stdout)
        return 0
