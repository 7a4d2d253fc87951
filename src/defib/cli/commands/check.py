"""``defib check``: a model, its loss and one batch, looked at before any training."""

import argparse

from defib.cli.answer import answer, whole
from defib.cli.command import Command
from defib.core.finding import Severity


class Check(Command):
    """Look at a model and its loss on one batch before training.

    Makes one forward pass, runs it backward, and takes no step. Prints findings,
    signal and gradient of each layer, and the gain ledger: where the gradient is
    lost, in the activations' derivatives or in the weights, and how far back in
    time recurrent layers pass it. Factories are named as
    module:function; the current folder is looked in first. Exit code 0; with
    --fail-on, 1 when a finding is at least that severe.
    """

    name = "check"
    order = 15

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("model", metavar="MODEL", help="module:factory that gives the model")
        add("--batch", metavar="BATCH", required=True, help="module:factory that gives (input, target)")
        add("--loss", metavar="LOSS", help="module:name of the loss (cross-entropy or squared error)")
        add("--seed", metavar="N", default="0", help="seed for the factories (0)")
        add("--json", action="store_true", help="one JSON object instead of text")
        add("--fail-on", choices=[s.value for s in Severity], help="exit with 1 at such a finding")

    def run(self, options: argparse.Namespace) -> int:
        seed = whole("--seed", options.seed)
        from defib.checks import check_named
        from defib.report.checkup import checkup_text

        checkup = check_named(options.model, options.batch, options.loss, seed)
        answer(checkup, checkup_text, as_json=options.json)
        limit = options.fail_on
        return int(
            limit is not None and any(f.severity.rank <= Severity(limit).rank for f in checkup.findings)
        )
