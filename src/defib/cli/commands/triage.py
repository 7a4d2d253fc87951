"""``defib triage``: the gradient is small; which of the causes is it?"""

import argparse
import re

from defib.cli.answer import answer, whole
from defib.cli.command import Command
from defib.core.errors import UsageError

_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


class Triage(Command):
    """Say why the loss stands still: minimum, saddle, plateau, dead, noise, ...

    Looks at a model, its loss and some batches in the state that the factories give
    (load your checkpoint there) and says which cause of a small gradient holds, with
    the numbers that decided: gradients of single samples, extreme eigenvalues of the
    Hessian with their bounds, and the ways down that were tried. Changes nothing.
    Factories are named as module:function; the current folder is looked in first.
    Exit code 0 whatever the verdict.
    """

    name = "triage"
    order = 16

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("model", metavar="MODEL", help="module:factory that gives the model")
        add("--batch", metavar="BATCH", required=True, help="module:factory of a batch, or of several")
        add("--loss", metavar="LOSS", help="module:name of the loss (cross-entropy or squared error)")
        add("--batches", metavar="N", default="8", help="batches taken from a loader or an iterator (8)")
        add("--memory", metavar="SIZE", help="memory that may be used, as 4G (half of what is free)")
        add("--seed", metavar="N", default="0", help="seed for factories and random directions (0)")
        add("--json", action="store_true", help="one JSON object instead of text")

    def run(self, options: argparse.Namespace) -> int:
        seed = whole("--seed", options.seed)
        batches = whole("--batches", options.batches, least=1)
        memory = None if options.memory is None else _bytes(options.memory)

        from defib.checks import triage_named
        from defib.report.triage import triage_text

        found = triage_named(
            options.model,
            options.batch,
            options.loss,
            seed,
            batches=batches,
            memory=memory,
        )
        answer(found.report, triage_text, as_json=options.json)
        return 0


def _bytes(text: str) -> float:
    """``4G`` as a number of bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)b?", text.strip().lower())
    if match is None:
        raise UsageError(f"a size is written as 4G or 500M, not {text!r}")
    return float(match[1]) * _UNITS[match[2]]
