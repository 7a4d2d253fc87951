"""``defib prognose``: which dead units will come back by themselves."""

import argparse

from defib.cli.answer import answer
from defib.cli.command import Command
from defib.core.errors import UsageError


class Prognose(Command):
    """Say which dead units of a run will come back, when and why.

    Reads the record only: the state that the optimiser kept of each dead unit, and
    samples of what feeds its layer. While a unit's gradient is zero, stored momentum
    and weight decay are all that moves it, and that is computed step by step. For
    layers above the first, whose inputs move, it adds how often silent units came
    back in this run. In a script, defib.prognose(model, optimizer, data) answers
    exactly, on all the data.
    """

    name = "prognose"
    order = 22

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("record", metavar="RUN", help="the record's folder, or one of its files")
        parser.add_argument("--horizon", metavar="N", help="steps to look ahead (as far as takes seconds)")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of text")

    def run(self, options: argparse.Namespace) -> int:
        from defib import api
        from defib.report.forecast import forecast_text

        forecast = api.prognose(options.record, horizon=_steps(options.horizon))
        answer(forecast, forecast_text, as_json=options.json)
        return 0


def _steps(text: str | None) -> int | None:
    """A horizon as it was typed."""
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"a horizon is a whole number of steps from 1 on, not {text!r}")
    return int(text)
