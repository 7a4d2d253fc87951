"""Where a record meets other people's formats: ``defib.export`` and ``defib export``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from defib.api import diagnose, open_run
from defib.core.errors import UsageError
from defib.core.run import RunView

if TYPE_CHECKING:
    from defib.api import AnyRun


def export(
    run: "str | os.PathLike[str] | AnyRun | RunView",
    *,
    parquet: str | os.PathLike[str] | None = None,
    json: str | os.PathLike[str] | None = None,
    tensorboard: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> tuple[Path, ...]:
    """Writes a run in other formats; each place is whole or not there at all.

    Args:
        run: A record's path, an open run, a live run, or the data itself.
        parquet: Folder for one Parquet file a table.
        json: File for one JSON object.
        tensorboard: Folder for an event file of TensorBoard.
        force: Replace the JSON file if it is already there; folders are never replaced.

    Returns:
        The places, in this order.

    Raises:
        UsageError: If no format is named.
        EnvironmentProblem: If a format needs a package that is not installed.
        OutputError: If a place is taken or cannot be written.
    """  # noqa: DOC502 - the writers raise it
    if not any(place is not None for place in (parquet, json, tensorboard)):
        raise UsageError("no format is named: --parquet DIR, --json FILE or --tensorboard DIR")
    if isinstance(run, (str, os.PathLike)):
        run = open_run(run)
    view = run if isinstance(run, RunView) else run.view
    diagnosis = diagnose(view)
    made = []
    if parquet is not None:
        from defib.report.parquet import write_parquet

        write_parquet(view, diagnosis, Path(parquet))
        made.append(Path(parquet))
    if json is not None:
        from defib.report.dump import write_json

        write_json(view, diagnosis, Path(json), force=force)
        made.append(Path(json))
    if tensorboard is not None:
        from defib.report.tensorboard import write_tensorboard

        write_tensorboard(view, diagnosis, Path(tensorboard))
        made.append(Path(tensorboard))
    return tuple(made)
