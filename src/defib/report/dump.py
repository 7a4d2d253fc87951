"""Tables and diagnosis as one JSON file, row by row: a large record need not fit in memory as text."""

import json
from collections.abc import Iterator
from pathlib import Path

from defib.core.diagnosis import Diagnosis
from defib.core.run import RunView
from defib.report.json import to_json, to_plain
from defib.report.tables import TABLES, Table
from defib.report.whole import fresh_file

SCHEMA = "defib.export/1"
"""Name and version of the structure."""


def write_json(run: RunView, diagnosis: Diagnosis, file: Path, *, force: bool = False) -> None:
    """Writes one JSON object, whole or not at all.

    Args:
        run: The run.
        diagnosis: What is wrong with it.
        file: Where.
        force: Replace a file that is already there.

    Raises:
        OutputError: If the place is taken, or cannot be written.
    """  # noqa: DOC502 - what is called raises it
    with fresh_file(file, force=force) as part, open(part, "w", encoding="ascii") as opened:
        for piece in _pieces(run, diagnosis):
            opened.write(piece)


def _pieces(run: RunView, diagnosis: Diagnosis) -> Iterator[str]:
    yield f'{{"schema": "{SCHEMA}",\n"diagnosis": {to_json(diagnosis, indent=None)},\n"tables": {{\n'
    for number, table in enumerate(TABLES):
        yield (",\n" if number else "") + f'"{table.name}": '
        yield from _table(table, run, diagnosis)
    yield "}}\n"


def _table(table: Table, run: RunView, diagnosis: Diagnosis) -> Iterator[str]:
    """Names of the columns, then the rows as lists."""
    names = json.dumps([column.name for column in table.columns])
    yield f'{{"columns": {names}, "rows": ['
    comma = "\n"
    for batch in table.batches(run, diagnosis):
        columns = [to_plain(column) for column in batch]
        for row in zip(*columns, strict=True):
            yield comma + json.dumps(row, allow_nan=False)
            comma = ",\n"
    yield "]}"
