"""What came of treatments that were given during a run: the same rules, asked about what was seen since."""

from collections.abc import Callable, Iterable
from typing import Any

from defib.core.aftermath import Aftermath, Treated
from defib.core.diagnosis import Diagnosis
from defib.core.finding import Finding, Severity
from defib.core.run import Event, RunView
from defib.core.window import since

ENOUGH = 200
"""Steps since a treatment in which every rule can find what it looks for: the most that one asks for."""

_ENDS = ("done", "refused", "rolled-back", "failed", "undone")


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
    for number, event in enumerate(events):
        done = event.data["stage"] == "done"
        again = next((e.step for e in events[number + 1 :] if _once_more(event, e)), None)
        back = next((e.step for e in events[number + 1 :] if _taken_back(event, e)), None)
        if done and back is not None:
            found.append(_treated(run, event, None, 0, back, Aftermath.NOT_ASKED))
            continue
        if done and again is None and event.data.get("rule") and event.step not in later:
            later[event.step] = judge(since(run, event.step))
        found.append(_treated(run, event, later.get(event.step), event.step - before, again))
        before = event.step if done else before
    return tuple(found)


def _once_more(event: Event, other: Event) -> bool:
    """Whether a later treatment was given for the same finding: it was found again, so it had stayed."""
    own, its = event.data, other.data
    same = bool(own.get("rule")) and (own.get("rule"), own.get("layer")) == (
        its.get("rule"),
        its.get("layer"),
    )
    return same and own["stage"] == its["stage"] == "done" and other.step > event.step


def _taken_back(event: Event, other: Event) -> bool:
    """Whether a later event says that this very treatment was undone."""
    own, its = event.data, other.data
    same = all(own.get(name) == its.get(name) for name in ("treatment", "rule", "layer", "dose"))
    return same and own["stage"] == "done" and its["stage"] == "undone"


def _treated(
    run: RunView,
    event: Event,
    later: Diagnosis | None,
    before: int,
    again: int | None,
    ended: Aftermath = Aftermath.STAYS,
) -> Treated:
    """What came of one treatment.

    Args:
        run: The whole run.
        event: The treatment.
        later: What is found since.
        before: Steps between it and the treatment before it.
        again: Step of the next treatment for the same finding, or of its undoing; None if there was none.
        ended: What that says about the finding.

    Returns:
        It with the state of its finding.
    """
    data: dict[str, Any] = event.data
    steps = max(0, (run.steps if again is None else again) - max(event.step, 0))
    rule, layer = str(data.get("rule", "")), str(data.get("layer", ""))
    state = Aftermath.NOT_ASKED if again is None else ended
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
    same = [f for f in _all(later.findings) if f.rule == rule and within(f.layer, layer)]
    if any(f.severity is not Severity.INFO for f in same):
        return Aftermath.STAYS
    if not enough:
        return Aftermath.TOO_EARLY
    return Aftermath.EASED if same else Aftermath.GONE


def within(path: str, layer: str) -> bool:
    """Whether a finding's place is a layer, or was put into that layer by a treatment (a norm in ``fc1``).

    Args:
        path: Where something is found.
        layer: A module that owned parameters before the treatment; "" for the whole model.

    Returns:
        True for the layer itself and for what is in it.
    """
    return path == layer or (bool(layer) and path.startswith(f"{layer}."))


def _all(findings: Iterable[Finding]) -> Iterable[Finding]:
    """Findings with those that they explain."""
    for finding in findings:
        yield finding
        yield from _all(finding.explains)
