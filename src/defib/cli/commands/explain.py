"""``defib explain``: the page of a rule, a cause, a treatment, an error, an experiment or a claim."""

import argparse
import sys

from defib.cli.command import Command
from defib.core.errors import NotFound


class Explain(Command):
    """Print the page of a rule, cause, treatment, error, experiment or claim.

    A rule's page says what is measured, why it hurts, what causes it, how it goes
    on, and when it is a false alarm; a treatment's what it does, when it helps and
    when it does not; a claim's (S2-10, as in `defib lab`) what proof and literature
    make of it and which experiments test it.
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
            names = {name.lower(): name for name in catalogues.lab_names()}
            if options.slug.lower() not in names:
                raise
            text = _of_the_lab(names[options.slug.lower()])
        say(text, sys.stdout)
        return 0


def _of_the_lab(name: str) -> str:
    """What ``defib lab show`` says of an experiment, or what is claimed in a row of the lab's list.

    Experiments import torch, so that their names are looked up in their source before.

    Returns:
        Text of several lines.
    """
    from defib.lab.index import claims, experiments
    from defib.lab.text import about, claim_text
    from defib.report.terminal import style_of

    known, style = experiments(), style_of(sys.stdout)
    if name in known:
        return about(known[name], claims(), style)
    return claim_text(claims()[name], (cls for cls in known.values() if name in cls.rows), style)
