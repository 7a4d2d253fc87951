"""Tables as Parquet files, one a table, with what each column means in the file itself. Needs pyarrow."""

from pathlib import Path
from typing import Any

from defib.core.diagnosis import Diagnosis
from defib.core.errors import EnvironmentProblem
from defib.core.run import RunView
from defib.report.rows import Columns
from defib.report.tables import NUMBER, TABLES, TEXT, TRUTH, Table
from defib.report.whole import fresh_folder

SCHEMA = "defib.tables/1"
"""Name and version of the tables; a column that changes its meaning changes it, a new one does not."""


def write_parquet(run: RunView, diagnosis: Diagnosis, folder: Path) -> None:
    """Writes every table into a fresh folder, all of them or none.

    Args:
        run: The run.
        diagnosis: What is wrong with it.
        folder: Where; nothing may be there yet.

    Raises:
        EnvironmentProblem: If pyarrow is not installed.
        OutputError: If the folder is taken, or cannot be written.
    """  # noqa: DOC502 - what is called raises it
    _arrow()
    with fresh_folder(folder) as part:
        for table in TABLES:
            _write(table, run, diagnosis, part / f"{table.name}.parquet")


def _arrow() -> tuple[Any, Any]:
    """The package pyarrow and its Parquet half."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        hint = "pip install 'defib[export]'"
        raise EnvironmentProblem(f"Parquet needs pyarrow, which is not installed: {hint}") from None
    return pyarrow, pyarrow.parquet


def _write(table: Table, run: RunView, diagnosis: Diagnosis, file: Path) -> None:
    arrow, parquet = _arrow()
    types = {TEXT: arrow.string(), NUMBER: arrow.float64(), TRUTH: arrow.bool_()}
    schema = arrow.schema(
        [
            arrow.field(c.name, types.get(c.kind, arrow.int64()), metadata={"meaning": c.meaning})
            for c in table.columns
        ],
        metadata={"defib": SCHEMA, "meaning": table.meaning},
    )
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in table.batches(run, diagnosis):
            writer.write_table(arrow.table(_arrays(arrow, schema, table, batch), schema=schema))


def _arrays(arrow: Any, schema: Any, table: Table, batch: Columns) -> list[Any]:
    """The columns as arrow arrays."""
    found = []
    for column, field, values in zip(table.columns, schema, batch, strict=True):
        given = [valid(v) for v in values] if column.kind == TEXT else values
        found.append(arrow.array(given, type=field.type))
    return found


def valid(text: str | None) -> str | None:
    """A text that is UTF-8: half of a surrogate pair, which is no character, becomes an escape."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")
