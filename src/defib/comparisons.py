"""Where two runs are laid side by side: ``defib.compare`` and ``defib compare``."""

import os
from typing import TYPE_CHECKING

from defib.api import diagnose, open_run
from defib.core.comparison import RunComparison
from defib.core.errors import UsageError
from defib.core.run import RunView

if TYPE_CHECKING:
    from defib.api import AnyRun
    from defib.core.config import Settings
    from defib.diagnosis.versus import Judged


def compare(
    before: "str | os.PathLike[str] | AnyRun | RunView",
    after: "str | os.PathLike[str] | AnyRun | RunView | None" = None,
    settings: "Settings | None" = None,
) -> RunComparison:
    """Says what changed between two runs, from their records alone.

    Args:
        before: A record's path, an open run, a live run, or the data itself.
        after: The same; None for ``before`` itself as it was since its last treatment, laid beside
            what it was until then.
        settings: Limits of rules; None for those of the nearest pyproject.toml.

    Returns:
        Findings gone, new and the same, curves, and settings that differ.

    Raises:
        UsageError: If ``after`` is left out and the run was never treated.
    """  # noqa: DOC502 - the halves below raise it
    from defib.diagnosis.versus import Judged
    from defib.diagnosis.versus import compare as lay

    first = _view(before)
    if after is None:
        return lay(*_halves(first, settings))
    second = _view(after)
    return lay(
        Judged(run=first, diagnosis=diagnose(first, settings)),
        Judged(run=second, diagnosis=diagnose(second, settings)),
    )


def _view(run: "str | os.PathLike[str] | AnyRun | RunView") -> RunView:
    if isinstance(run, (str, os.PathLike)):
        run = open_run(run)
    return run if isinstance(run, RunView) else run.view


def _halves(run: RunView, settings: "Settings | None") -> "tuple[Judged, Judged]":
    """A treated run until its last treatment, and since."""
    from dataclasses import replace

    from defib.core.diagnosis import Verdict
    from defib.core.window import since, until
    from defib.diagnosis.versus import Judged

    done = [e.step for e in run.of_kind("treatment") if e.data.get("stage") == "done" and e.step >= 0]
    if not done:
        raise UsageError("the run was never treated: name a second one to compare it with")
    step = done[-1]
    treated = diagnose(run, settings).treated
    earlier, later = until(run, step), since(run, step)
    before, after = diagnose(earlier, settings), diagnose(later, settings)
    if any(each.rule and each.stage == "done" and each.step == step for each in treated):
        before = replace(before, verdict=Verdict.SICK)  # it was, or nothing would have been given for it
    return (
        Judged(run=earlier, diagnosis=before, last=step, blind=True),
        Judged(run=later, diagnosis=replace(after, treated=treated), first=step),
    )


def worse(comparison: RunComparison) -> bool:
    """Whether the second run has a cause of trouble that the first has not, or was not seen."""
    from defib.core.comparison import State
    from defib.core.diagnosis import Verdict
    from defib.core.finding import Severity

    harmful = [c for c in comparison.findings if c.after not in {None, Severity.INFO} and not c.explained]
    fresh = any(c.state is not State.SAME or c.before is Severity.INFO for c in harmful)
    return fresh or comparison.after.verdict is Verdict.NOT_OBSERVED
