"""What came of a run, from its record and its standard output."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from defib import api
from defib.core.errors import DefibError
from defib.core.finding import Finding, Severity
from defib.core.trial import Outcome
from defib.trials.design import Job, Measure
from defib.trials.executor import Finished, found_in
from defib.trials.search import named

if TYPE_CHECKING:
    from defib.core.run import RunView
    from defib.core.series import Series

LATE = 0.05
"""Part of a run's steps over which its final loss is averaged."""

_FAILED = {"refused", "rolled-back", "failed"}


def outcome_of(job: Job, finished: Finished, folder: Path, measure: Measure) -> Outcome:
    """What came of a run.

    Args:
        job: What was run.
        finished: How its process ended.
        folder: Where its record and its streams are: ``runs/<job>`` in the trial's folder.
        measure: What a run is worth.

    Returns:
        The outcome; one without a loss where there is no record.
    """
    record = folder / "run.rec"
    try:
        view: RunView | None = api.open_run(record).view
    except DefibError:
        view = None
    losses = view.loss.values if view is not None else np.zeros(0)
    harmful = None if view is None else harm(as_treated(view))
    race = _race(view)
    steps = view.steps if view is not None else 0
    return Outcome(
        arm=job.arm.name,
        seed=job.seed,
        score=_score(folder, view, losses, measure),
        loss=final(losses),
        first_loss=number(losses[0]) if len(losses) else None,
        steps=steps,
        seconds=finished.seconds,
        code=finished.code,
        stop_at=steps if race.get("stage") == "stopped" else None,
        treated=_treated(view),
        refused=_refused(view),
        record=str(record.relative_to(folder.parent.parent)),
        cpu=finished.cpu,
        gain=number(race.get("gain")),
        wrong=None if harmful is None else sum(f.severity is Severity.ERROR for f in harmful),
        findings=tuple(dict.fromkeys(named(f.rule, f.layer) for f in harmful or ())),
        rival=job.rival,
    )


def _score(folder: Path, view: "RunView | None", losses: "np.ndarray", measure: Measure) -> float | None:
    if measure.pattern:
        text = (folder / "stdout").read_text(encoding="utf-8", errors="replace")
        return number(found_in(text, measure.pattern))
    if measure.logged:
        logged: Series | None = view.logged.get(measure.logged) if view is not None else None
        return number(logged.values[-1]) if logged is not None and len(logged) else None
    return final(losses)


def harm(view: "RunView") -> tuple[Finding, ...]:
    """Errors and warnings, in their order."""
    return tuple(f for f in api.diagnose(view).findings if f.severity is not Severity.INFO)


def as_treated(view: "RunView") -> "RunView":
    """What was seen since the last treatment that was given after the first step; else all of it."""
    from defib.core.window import since

    given = [e.step for e in view.of_kind("treatment") if e.data.get("stage") == "done"]
    return since(view, max(given)) if given and max(given) > 0 else view


def final(losses: "np.ndarray") -> float | None:
    """Mean training loss over the last twentieth of the steps; None if it is not finite.

    Args:
        losses: Loss of each step, shape (T,).

    Returns:
        The mean.
    """
    count = max(1, round(len(losses) * LATE))
    return number(float(np.mean(losses[-count:]))) if len(losses) else None


def number(value: float | str | None) -> float | None:
    """A finite number, or nothing."""
    found = float(value) if value is not None else math.nan
    return found if math.isfinite(found) else None


def _race(view: "RunView | None") -> dict[str, Any]:
    """The last decision of its race; empty if it ran none."""
    events = view.of_kind("trial") if view is not None else ()
    return events[-1].data if events else {}


def _treated(view: "RunView | None") -> tuple[str, ...]:
    events = view.of_kind("treatment") if view is not None else ()
    return tuple(e.data["treatment"] for e in events if e.data.get("stage") == "done")


def _refused(view: "RunView | None") -> str:
    events = view.of_kind("treatment") if view is not None else ()
    return next((str(e.data.get("why", "")) for e in events if e.data.get("stage") in _FAILED), "")
