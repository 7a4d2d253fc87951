"""``defib certify``: which units can never fire, proved, on a set of inputs."""

import argparse

from defib.cli.answer import answer, whole
from defib.cli.command import Command
from defib.core.errors import UsageError


class Certify(Command):
    """Prove which units can never fire on a set of inputs.

    Bounds every number in the model for all inputs of the domain at once, rounding
    included, and says of each unit: proved never to fire, proved always linear, seen
    to fire, never seen to fire, or open. The domain is the range of the batch (data),
    the range widened (data+10%), a box (0:1), a ball (ball:0.5:0.1), every input
    (any), or module:factory. Factories are named as module:function; the current
    folder is looked in first. Exit code 0; with --fail-on-dead, 1 when a unit is
    proved never to fire.
    """

    name = "certify"
    order = 17

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("model", metavar="MODEL", help="module:factory that gives the model")
        add("--batch", metavar="BATCH", required=True, help="module:factory that gives (input, target)")
        add("--domain", metavar="DOMAIN", default="data", help="the set of inputs (data)")
        add("--loss", metavar="LOSS", help="module:name of the loss, for the rank certificate")
        add("--exact", metavar="N", default="0", help="ask a solver about N open units (0)")
        add("--seconds", metavar="S", default="60", help="time for linear bounds (60)")
        add("--seed", metavar="N", default="0", help="seed for the factories (0)")
        add("--json", action="store_true", help="one JSON object instead of text")
        add("--fail-on-dead", action="store_true", help="exit with 1 if a unit is proved never to fire")

    def run(self, options: argparse.Namespace) -> int:
        seed, exact = whole("--seed", options.seed), whole("--exact", options.exact)
        try:
            seconds = float(options.seconds)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise UsageError(f"--seconds is a number from 0 on, not {options.seconds!r}")

        from defib.core.certificate import UnitVerdict
        from defib.proofs import certify_named
        from defib.report.certificate import certificate_text

        found = certify_named(
            options.model,
            options.domain,
            options.batch,
            options.loss,
            seed,
            seconds=seconds,
            exact=exact,
        )
        answer(found, certificate_text, as_json=options.json)
        dead = any(layer.count(UnitVerdict.NEVER_FIRES) for layer in found.layers)
        return int(options.fail_on_dead and dead)
