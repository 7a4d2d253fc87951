"""A trial's folder: what was asked, and every run that is complete. A killed trial goes on from here."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from defib.core.errors import OutputError, RecordDamaged, UsageError
from defib.core.trial import Outcome, Verdict, outcome_from
from defib.trials.design import Job

PLAN = "trial.json"
OUTCOMES = "outcomes.jsonl"


class Book:
    """The folder of one trial.

    Args:
        folder: Made if it is not there.
        plan: What is asked; compared with what was asked when the folder was made.

    Raises:
        OutputError: If the folder cannot be made, or holds something else.
        UsageError: If it belongs to another trial.
    """

    def __init__(self, folder: Path, plan: dict[str, Any]) -> None:
        self.folder = folder
        self.outcomes: dict[str, Outcome] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / PLAN).exists():
                if any(folder.iterdir()):
                    raise OutputError(f"{folder} is not empty and no trial: name another place with -o")
                _write(folder / PLAN, json.dumps(plan, indent=1, default=str))
        except OSError as error:
            raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from None
        before = _read(folder / PLAN)
        changed = [k for k in plan if before.get(k) != json.loads(json.dumps(plan[k], default=str))]
        if changed:
            raise UsageError(f"{folder} is another trial ({changed[0]} differs): name another place with -o")
        self._load()

    def known(self, job: Job) -> Outcome | None:
        """What came of a job in an earlier life of this trial."""
        return self.outcomes.get(job.name)

    def add(self, job: Job, outcome: Outcome) -> None:
        """Keeps an outcome: it is on the disk when this returns."""
        self.outcomes[job.name] = outcome
        line = json.dumps({"job": job.name, **asdict(outcome)}) + "\n"
        with (self.folder / OUTCOMES).open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def conclude(self, verdict: Verdict) -> None:
        """Keeps the verdict beside the outcomes."""
        _write(self.folder / "verdict.json", json.dumps(asdict(verdict), indent=1))

    def _load(self) -> None:
        """Reads what is complete; a line that a kill cut short counts as a run that never ended."""
        path = self.folder / OUTCOMES
        if not path.exists():
            return
        text = path.read_text(encoding="utf-8")
        complete = text[: text.rfind("\n") + 1]
        if complete != text:
            _write(path, complete)
        try:
            for line in complete.splitlines():
                data = json.loads(line)
                job = data.pop("job")
                self.outcomes[job] = outcome_from(data)
        except (ValueError, KeyError, TypeError):
            raise RecordDamaged(f"{path} is damaged: move it away to run the trial anew") from None


def _write(path: Path, text: str) -> None:
    """All of it or nothing."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise RecordDamaged(f"{path} cannot be read: name another place with -o") from None
    if not isinstance(found, dict):
        raise RecordDamaged(f"{path} is no trial: name another place with -o")
    return found
