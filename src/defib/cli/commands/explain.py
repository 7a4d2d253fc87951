"""``defib explain``: the page of a rule, a cause, a treatment, an error or an experiment."""

import argparse
import sys

from defib.cli.command import Command
from defib.core.errors import NotFound


class Explain(Command):
    """Print the page of a rule, a cause, a treatment, an error or an experiment.

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

        try:
            text = catalogues.explain(options.slug)
        except NotFound:
            text = _experiment(options.slug)
            if not text:
                raise
        say(text, sys.stdout)
        return 0


def _experiment(slug: str) -> str:
    """What ``defib lab show`` says of an experiment; "" if there is none of that name.

    Experiments import torch, so that their names are looked up in their source first.

    Returns:
        Text of several lines.
    """
    from defib.core.catalogue import outlines

    if slug not in {each.slug for each in outlines("defib.lab.experiments")}:
        return ""
    from defib.lab.index import claims, experiment
    from defib.lab.text import about
    from defib.report.terminal import style_of

    return about(experiment(slug), claims(), style_of(sys.stdout))
