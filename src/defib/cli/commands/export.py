"""``defib export``: a record for other people's tools."""

import argparse
import sys

from defib.cli.command import Command


class Export(Command):
    """Write a recorded run as Parquet tables, JSON, or TensorBoard events.

    Several formats can be named at once. A folder or file is written beside its
    place and put there when it is whole: after an error or a kill there is none.
    Samples of the data that a record keeps as evidence are not exported. Needs
    pip install 'defib[export]' for Parquet, 'defib[tensorboard]' for TensorBoard.
    """

    name = "export"
    order = 28

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("record", metavar="RUN", help="the record's folder, or one of its files")
        add("--parquet", metavar="DIR", help="one Parquet file a table, into this new folder")
        add("--json", metavar="FILE", help="all tables and the diagnosis as one JSON object")
        add("--tensorboard", metavar="DIR", help="an event file of TensorBoard, into this new folder")
        add("-f", "--force", action="store_true", help="replace FILE; folders are never replaced")

    def run(self, options: argparse.Namespace) -> int:
        from defib.exports import export
        from defib.report.terminal import say
        from defib.report.wording import shown

        made = export(
            options.record,
            parquet=options.parquet,
            json=options.json,
            tensorboard=options.tensorboard,
            force=options.force,
        )
        for place in made:
            say(f"written   {shown(str(place), 160)}", sys.stdout)
        return 0
