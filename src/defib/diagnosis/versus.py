"""Two judged runs side by side: which findings are gone, new or the same, and whether that can be told."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from defib.core.aftermath import Aftermath, Treated
from defib.core.cause import Cause
from defib.core.comparison import FindingChange, RunComparison, Side, State
from defib.core.diagnosis import Diagnosis, Verdict
from defib.core.finding import Finding, Severity
from defib.core.run import Event, RunView
from defib.diagnosis.aftermath import ENOUGH, within
from defib.diagnosis.measures.curves import curve_changes
from defib.diagnosis.measures.setup import setting_changes

_ORDER = (State.GONE, State.NEW, State.NOT_JUDGED, State.SAME)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A run, or a stretch of one, with its diagnosis.

    Attributes:
        run: What was seen.
        diagnosis: What is wrong with it.
        first: First step that it is about.
        last: The step after the last one that it is about; None for the run's end.
        blind: What its single units did is not known of it.
    """

    run: RunView
    diagnosis: Diagnosis
    first: int = 0
    last: int | None = None
    blind: bool = False

    @property
    def steps(self) -> int:
        """Optimiser steps that were judged."""
        end = self.run.steps if self.last is None else min(self.last, self.run.steps)
        return max(0, end - self.first)


def compare(before: Judged, after: Judged) -> RunComparison:
    """What changed from one run to another.

    Args:
        before: The first.
        after: The second.

    Returns:
        The comparison.
    """
    treated = after.diagnosis.treated
    findings = tuple(sorted((_marked(c, treated) for c in _changes(before, after)), key=_place))
    return RunComparison(
        before=_side(before, sum(c.before is None and c.after is None for c in findings)),
        after=_side(after, 0),
        sentence=_sentence(before, after, findings),
        findings=findings,
        curves=curve_changes(before.run, after.run),
        settings=() if before.blind else setting_changes(before.run, after.run),
        treated=treated,
        notes=tuple(_notes(before, after)),
    )


def _place(change: FindingChange) -> tuple[int, int, bool]:
    return _ORDER.index(change.state), change.severity.rank, change.explained


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A finding, and whether another one explains it."""

    finding: Finding
    explained: bool


def _all(findings: Iterable[Finding], explained: bool = False) -> Iterator[_Found]:
    """Findings with those that they explain."""
    for finding in findings:
        yield _Found(finding=finding, explained=explained)
        yield from _all(finding.explains, explained=True)


def _changes(before: Judged, after: Judged) -> Iterator[FindingChange]:
    """Each finding of both once: first matched with its cause, then without."""
    old, new = list(_all(before.diagnosis.findings)), list(_all(after.diagnosis.findings))
    for match in (_alike, _at_one_place, _inside):
        for one in tuple(old):
            other = next((n for n in new if match(one.finding, n.finding)), None)
            if other is not None:
                old.remove(one)
                new.remove(other)
                yield _same(one, other)
    for one in old:
        why = _unjudged(one.finding, after, _by(before, one))
        yield _alone(one, State.NOT_JUDGED if why else State.GONE, why, first=True)
    for other in new:
        why = _unjudged(other.finding, before, _by(after, other))
        yield _alone(other, State.NOT_JUDGED if why else State.NEW, why, first=False)
    if before.blind:
        known = {(f.finding.rule, f.finding.layer) for f in _all(before.diagnosis.findings)}
        for treated in given(after.diagnosis.treated):
            if (treated.rule, treated.layer) not in known and treated.step == after.first:
                yield from _treated(treated, after)


def _treated(treated: Treated, after: Judged) -> Iterator[FindingChange]:
    """A finding that a treatment was given for, which the part before it alone does not show."""
    later = {(f.finding.rule, f.finding.layer) for f in _all(after.diagnosis.findings)}
    cause = next((e.data.get("cause") for e in after.run.of_kind("treatment") if _is(e, treated)), None)
    if cause not in set(Cause) or (treated.rule, treated.layer) in later:
        return
    gone = treated.aftermath in {Aftermath.GONE, Aftermath.EASED}
    yield FindingChange(
        state=State.GONE if gone else State.NOT_JUDGED,
        rule=treated.rule,
        cause=Cause(cause),
        layer=treated.layer,
        message=f"{treated.treatment} was given for it at step {treated.step:,}",
        why="" if gone else f"only {treated.steps_since:,} steps were seen since",
    )


def _is(event: Event, treated: Treated) -> bool:
    """Whether a treatment is the one that an event tells of."""
    told = event.step, event.data.get("stage"), event.data.get("treatment"), event.data.get("layer")
    return told == (treated.step, treated.stage, treated.treatment, treated.layer)


def _marked(change: FindingChange, treated: Sequence[Treated]) -> FindingChange:
    """The change with the treatments that were given for its finding."""
    own = [t for t in given(treated) if t.aftermath is not Aftermath.STAYS or change.state is not State.GONE]
    slugs = [t.treatment for t in own if t.rule == change.rule and within(change.layer, t.layer)]
    return replace(change, treated=tuple(dict.fromkeys(slugs))) if slugs else change


def _alike(one: Finding, other: Finding) -> bool:
    return _at_one_place(one, other) and one.cause is other.cause


def _at_one_place(one: Finding, other: Finding) -> bool:
    return (one.rule, one.layer, one.call) == (other.rule, other.layer, other.call)


def _inside(one: Finding, other: Finding) -> bool:
    """A treatment may have put a normalisation into the layer, whose units they are from then on."""
    return one.rule == other.rule and within(other.layer, one.layer)


def _by(judged: Judged, found: _Found) -> int:
    """Steps that another run has to have been seen for, so that the finding's absence counts.

    As many as it was found in, up to what every rule can find its own in; and beyond the step at
    which it came about, for before that it was absent here as well.

    Returns:
        A number of steps.
    """
    since = found.finding.since_step
    return max(min(judged.steps, ENOUGH), 0 if since is None else since - judged.first + 1)


def _unjudged(finding: Finding, other: Judged, needed: int) -> str:
    """Why the absence of a finding in another run shows nothing; "" if it does."""
    diagnosis = other.diagnosis
    if diagnosis.verdict is Verdict.NOT_OBSERVED:
        return "too little was seen of that run to judge it"
    broke = next((n for n in diagnosis.not_run if n.rule == finding.rule), None)
    if broke is not None:
        return f"the rule broke there: {broke.why}"
    if other.blind and finding.units_total:
        return "which units were silent is kept as of the run's end, not of that moment"
    if finding.layer and other.run.layer(finding.layer) is None:
        return "that run has no layer of this name"
    unseen = next((u for u in diagnosis.coverage.not_observed if u.what == finding.layer), None)
    if finding.layer and unseen is not None:
        return f"the layer was not observed there: {unseen.why}"
    if other.steps < needed:
        return f"that run was seen for {other.steps:,} steps only"
    return ""


def _same(one: _Found, other: _Found) -> FindingChange:
    old, new = one.finding, other.finding
    return FindingChange(
        state=State.SAME,
        rule=new.rule,
        cause=new.cause,
        layer=new.layer,
        call=new.call,
        message=new.message,
        before=old.severity,
        after=new.severity,
        cause_before=None if old.cause is new.cause else old.cause,
        units_before=len(old.units),
        units_after=len(new.units),
        since_before=old.since_step,
        since_after=new.since_step,
        explained=other.explained,
    )


def _alone(found: _Found, state: State, why: str, *, first: bool) -> FindingChange:
    """A finding of one run only."""
    one = found.finding
    return FindingChange(
        state=state,
        rule=one.rule,
        cause=one.cause,
        layer=one.layer,
        call=one.call,
        message=one.message,
        before=one.severity if first else None,
        after=None if first else one.severity,
        units_before=len(one.units) if first else 0,
        units_after=0 if first else len(one.units),
        since_before=one.since_step if first else None,
        since_after=None if first else one.since_step,
        explained=found.explained,
        why=why,
    )


def _side(judged: Judged, more: int) -> Side:
    """The run in short; ``more`` findings are known only from what was given for them."""
    facts, diagnosis = judged.run.facts, judged.diagnosis
    overhead = judged.run.overhead
    troubles = more + sum(f.severity is not Severity.INFO for f in diagnosis.findings)
    return Side(
        path=str(facts.get("path", "")),
        target=str(facts.get("target", "")),
        status=str(facts.get("status", "")),
        verdict=diagnosis.verdict,
        steps=judged.steps,
        first=judged.first,
        seconds=overhead.seconds / overhead.ratio if overhead.ratio else None,
        troubles=troubles,
        notes=len(diagnosis.findings) + more - troubles,
    )


def _sentence(before: Judged, after: Judged, changes: Sequence[FindingChange]) -> str:
    """Verdicts, and how many findings of warning or worse went, came and stayed."""
    old, new = before.diagnosis.verdict, after.diagnosis.verdict
    words = f"{_word(old)} in both" if old is new else f"from {_word(old)} to {_word(new)}"
    harmful = [c for c in changes if (c.treated or c.severity is not Severity.INFO) and not c.explained]
    counts = {s: sum(c.state is s for c in harmful) for s in State}
    parts = [f"{n} {'not judged' if s is State.NOT_JUDGED else s.value}" for s, n in counts.items() if n]
    eased = sum(c.after is Severity.INFO for c in harmful if c.state is State.SAME)
    if eased:
        parts.append(f"{eased} of those eased to a note")
    return f"{words}; causes of trouble: {', '.join(parts) or 'none in either'}"


def _word(verdict: Verdict) -> str:
    return verdict.value.replace("-", " ")


def _notes(before: Judged, after: Judged) -> Iterator[str]:
    """What limits the comparison."""
    short, long = sorted((before.steps, after.steps))
    if before.blind:
        yield "of the part before a treatment it is not known which units were silent when"
        return
    if long > 2 * max(short, 1):
        yield f"one run is {long:,} steps long and the other {short:,}; what comes late is in one only"
    for name, judged in (("first", before), ("second", after)):
        if judged.run.facts.get("status") == "running":
            yield f"the {name} run still goes on"
    if before.run.facts.get("arguments") == after.run.facts.get("arguments"):
        yield "a single pair of runs; what chance does to a run is shown by defib trial"


def given(treated: Sequence[Treated]) -> tuple[Treated, ...]:
    """Treatments that were done for a finding, with what became of it."""
    return tuple(t for t in treated if t.stage == "done" and t.aftermath is not Aftermath.NOT_ASKED)
