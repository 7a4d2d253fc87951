"""Runs the proving ground and writes its scoreboard, as JSON and as a Markdown page."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from defib.lab.board import Board, board
from defib.lab.boardtext import markdown
from defib.lab.pairs import Failed, Pair
from defib.lab.scoreboard import conduct, trials
from defib.report.whole import write_text


def present(
    names: Sequence[str],
    *,
    draws: int,
    first: int = 0,
    folder: Path,
    jobs: int = 0,
    told: Callable[[str], None],
) -> Board:
    """Runs what is not done yet, and writes ``lab_scoreboard.json`` and ``.md`` into a folder.

    Args:
        names: Pathologies; none for all.
        draws: Draws of each.
        first: Number of the first draw.
        folder: Where both are written; pairs are kept in ``pairs`` below it.
        jobs: Processes at a time; 0 for one a core.
        told: Hears a line a pair.

    Returns:
        The scoreboard.

    Raises:
        OutputError: If the folder cannot be written.
    """  # noqa: DOC502 - the functions below raise it
    import torch

    wanted = trials(draws, names, first)
    done: list[Pair | Failed] = []
    for pair in conduct(wanted, folder / "pairs", jobs=jobs):
        done.append(pair)
        told(f"{len(done)} of {len(wanted)}  {_line(pair)}")
    words = ["defib lab scoreboard", *names, *([f"--seed {first}"] if first else []), f"--seeds {draws}"]
    made = {"command": " ".join(words), "date": date.today().isoformat(), "torch": torch.__version__}
    found = board(done, made)
    texts = {"lab_scoreboard.json": json.dumps(asdict(found), indent=1) + "\n"}
    texts["lab_scoreboard.md"] = markdown(found)
    for name, text in texts.items():
        write_text(folder / name, text, force=True)
    return found


def as_data(found: Board) -> dict[str, Any]:
    """The scoreboard for ``--json``."""
    return asdict(found)


def _line(pair: Pair | Failed) -> str:
    """What came of one pair, in a line."""
    name = f"{pair.trial.pathology} {pair.trial.number}"
    if isinstance(pair, Failed):
        return f"{name}: broke: {pair.why}"
    first = pair.sick.first
    read = f"{first.rule}/{first.cause} ({first.severity})" if first else "nothing"
    counts = "" if pair.sick_counts else " (does not count)"
    alarms = ", ".join(found.rule for found in pair.twin.alarms)
    return f"{name}: {read}{counts}" + (f"; its twin: {alarms}" if alarms else "")
