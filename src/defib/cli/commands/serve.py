"""``defib serve``: the report, live in a browser while the run goes on."""

import argparse
import os
import sys

from defib.cli.command import Command
from defib.core.errors import EnvironmentProblem, UsageError


class Serve(Command):
    """Show a run in the browser while it trains.

    Give it a record, or a folder of records to see them side by side and compare two
    of them. The training process is not touched: the record is only read. The server
    answers on this machine alone (127.0.0.1), and only to whoever has the address
    with its token, which is printed. Ctrl-C ends it with exit code 0. Needs the extra
    `serve`: pip install "defib[serve]".
    """

    name = "serve"
    order = 26

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("record", metavar="RUN|DIR", help="a record, or a folder of records")
        add("--port", metavar="N", default="0", help="port to listen on (any that is free)")
        add("--open", action="store_true", help="open the page in the browser")

    def run(self, options: argparse.Namespace) -> int:
        port = _port(options.port)
        try:
            from defib.dashboard.server import serve
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in {"starlette", "uvicorn", "h11", "anyio"}:
                raise
            raise EnvironmentProblem(
                f'defib serve needs the package {error.name}; pip install "defib[serve]"'
            ) from None
        from defib.dashboard.hall import checked
        from defib.dashboard.keys import TOKEN_VARIABLE, Keys
        from defib.report.terminal import say

        root = checked(options.record)
        keys = Keys.make(os.environ.get(TOKEN_VARIABLE) or None)

        def ready(address: str) -> None:
            say(f"defib serves {root.name or root} at\n\n  {address}\n\nCtrl-C ends it.", sys.stdout)
            if options.open:
                import webbrowser

                webbrowser.open(address)

        try:
            serve(root, keys, port, ready)
        except KeyboardInterrupt:
            return 0
        return 0


def _port(text: str) -> int:
    """A port as it was typed."""
    if not (text.isascii() and text.isdecimal() and int(text) <= 65535):
        raise UsageError(f"a port is a whole number from 0 to 65535, not {text!r}")
    return int(text)
