"""What came of treatments that were given during a run: the same rules, asked about what was seen since."""

from collections.abc import Callable, Iterable
from typing import Any

from defib.core.finding import Aftermath, Diagnosis, Finding, Severity, Treated
from defib.core.run import Event, RunView
from defib.core.window import since

ENOUGH = 200
"""Steps since a treatment in which every rule can find what it looks for: the most that one asks for."""

_ENDS = ("done", "refused", "rolled-back", "failed")


def aftermath(run: RunView, judge: Callable[[RunView], Diagnosis]) -> tuple[Treated, ...]:
    """Each treatment of a run, and whether the finding that it was given for is still there.

    "Gone" takes as many steps without the finding as there were with it, up to :data:`ENOUGH`: where
    fewer were seen, its absence shows nothing.

    Args:
        run: The whole run.
        judge: Makes a diagnosis of a part of it.

    Returns:
        In order of time; empty if none was given.
    """
    events = [e for e in run.of_kind("treatment") if e.data.get("stage") in _ENDS]
    later: dict[int, Diagnosis] = {}
    before = 0
    found = []
    for event in events:
        done = event.data["stage"] == "done"
        if done and event.data.get("rule") and event.step not in later:
            later[event.step] = judge(since(run, event.step))
        found.append(_treated(run, event, later.get(event.step), event.step - before))
        before = event.step if done else before
    return tuple(found)


def _treated(run: RunView, event: Event, later: Diagnosis | None, before: int) -> Treated:
    data: dict[str, Any] = event.data
    steps = max(0, run.steps - max(event.step, 0))
    rule, layer = str(data.get("rule", "")), str(data.get("layer", ""))
    state = Aftermath.NOT_ASKED
    if data["stage"] == "done" and rule and later is not None:
        state = _state(later, rule, layer, steps >= (min(before, ENOUGH) if before > 0 else ENOUGH))
    return Treated(
        step=event.step,
        treatment=str(data.get("treatment", "")),
        stage=str(data["stage"]),
        rule=rule,
        layer=layer,
        dose=dict(data.get("dose", {})),
        why=str(data.get("why", "")),
        steps_since=steps,
        aftermath=state,
    )


def _state(later: Diagnosis, rule: str, layer: str, enough: bool) -> Aftermath:
    """What is left of the finding, also where another explains it now."""
    same = [f for f in _all(later.findings) if f.rule == rule and f.layer == layer]
    if any(f.severity is not Severity.INFO for f in same):
        return Aftermath.STAYS
    if not enough:
        return Aftermath.TOO_EARLY
    return Aftermath.EASED if same else Aftermath.GONE


def _all(findings: Iterable[Finding]) -> Iterable[Finding]:
    """Findings with those that they explain."""
    for finding in findings:
        yield finding
        yield from _all(finding.explains)
