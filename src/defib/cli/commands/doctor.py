"""``defib doctor``: can defib watch here?"""

import argparse
import sys

from defib.cli.command import Command
from defib.core.errors import EnvironmentProblem


class Doctor(Command):
    """Look at this python, torch and folder: what can be observed here?

    Imports torch. Exit code 0, or 69 if defib cannot watch here.
    """

    name = "doctor"
    order = 50

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="a JSON list instead of a table")

    def run(self, options: argparse.Namespace) -> int:
        from defib.cli.environment import State, examine
        from defib.report.lines import wrapped
        from defib.report.terminal import say

        checks = []
        for check in examine():
            checks.append(check)
            if not options.json:
                said = f"{check.state.value:<9}{check.name:<15}{check.found}"
                say("\n".join(wrapped(said, rest=" " * 24)), sys.stdout)
        if options.json:
            import json

            from defib.report.json import to_plain

            say(json.dumps(to_plain(checks), indent=2), sys.stdout)
        missing = [check.name for check in checks if check.state == State.MISSING]
        if missing:
            raise EnvironmentProblem(f"defib cannot watch here: see {', '.join(missing)}")
        return 0
