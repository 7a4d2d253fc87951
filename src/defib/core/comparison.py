"""What changed between two runs, or within one that was treated: plain data, JSON-able."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from defib.core.aftermath import Treated
from defib.core.cause import Cause
from defib.core.diagnosis import Verdict
from defib.core.finding import Severity
from defib.core.trial import Goal


class State(StrEnum):
    """What became of a finding from the one run to the other."""

    GONE = "gone"
    """It is found in the first run and not in the second, where enough was seen to find it."""
    NEW = "new"
    """It is found in the second run and not in the first, where enough was seen to find it."""
    SAME = "same"
    """It is found in both."""
    NOT_JUDGED = "not-judged"
    """It is found in one, and too little was seen of the other to say anything."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two runs.

    Attributes:
        path: Its record; "" if it was not read from one.
        target: The script; "" if unknown.
        status: How it ended ("finished", "running", "interrupted", ...).
        verdict: Its diagnosis in one word.
        steps: Optimiser steps that were judged.
        first: The first of them: above 0 where only what came after a treatment is judged.
        seconds: Wall time of the whole run; None if unknown.
        troubles: Findings of warning or worse.
        notes: The other findings.
    """

    path: str
    target: str
    status: str
    verdict: Verdict
    steps: int
    first: int = 0
    seconds: float | None = None
    troubles: int = 0
    notes: int = 0


@dataclass(frozen=True, kw_only=True)
class FindingChange:
    """One finding in both runs, matched by rule, layer and cause.

    Attributes:
        state: What became of it.
        rule: Its rule.
        cause: Its cause in the second run if it is there, else in the first.
        layer: Its layer; "" for the whole model.
        call: Which use of the layer in one forward pass.
        before: Severity in the first run; None if it is not found there, or known only from the
            treatment that was given for it.
        after: Severity in the second run; None if it is not found there.
        cause_before: Its cause in the first run where that is another one; None otherwise.
        units_before: How many units it names in the first run.
        units_after: How many in the second.
        since_before: First step at which it held in the first run; None if unknown.
        since_after: The same in the second run.
        explained: It is there as the consequence of another finding.
        message: The rule's sentence, of the second run if it is there, else of the first.
        treated: Treatments that were given for it in the second run.
        why: For ``not-judged``: why not.
    """

    state: State
    rule: str
    cause: Cause
    layer: str
    message: str
    call: int = 0
    before: Severity | None = None
    after: Severity | None = None
    cause_before: Cause | None = None
    units_before: int = 0
    units_after: int = 0
    since_before: int | None = None
    since_after: int | None = None
    explained: bool = False
    treated: tuple[str, ...] = ()
    why: str = ""

    @property
    def severity(self) -> Severity:
        """The worse of the two."""
        there = [s for s in (self.before, self.after) if s is not None]
        return min(there, key=lambda s: s.rank, default=Severity.INFO)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A number step by step, in short.

    Attributes:
        points: How many numbers there are.
        nonfinite: How many of them are NaN or infinite.
        first: Median of the first twentieth; NaN if there is none.
        last: Median of the last twentieth, non-finite numbers left out; NaN if there is none.
        best: The lowest or highest number, as is better; NaN where no way is better.
        best_step: Its step; -1 where there is none.
        steps: Steps of the points to draw, at most 400.
        values: Their numbers; of each stretch of steps its lowest and its highest.
    """

    points: int
    nonfinite: int
    first: float
    last: float
    best: float
    best_step: int
    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CurveChange:
    """One logged number in both runs.

    Attributes:
        name: "loss", "lr", "scale", with the optimiser's number where there are several; or the name
            under which the script logged it.
        goal: Which way is better; None if none is known to be.
        before: In the first run; None if it is not there.
        after: In the second.
        reached: First step at which the second run was as good as the first ever was; None if it never
            was, or if no way is better.
    """

    name: str
    goal: Goal | None
    before: Curve | None
    after: Curve | None
    reached: int | None = None


@dataclass(frozen=True, kw_only=True)
class SettingChange:
    """One setting that differs.

    Attributes:
        what: What it belongs to ("optimizer 0", "layer fc1", "versions", "script").
        name: Its name.
        before: Its value in the first run, JSON-able; None if it is not there.
        after: In the second.
    """

    what: str
    name: str
    before: Any
    after: Any


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """The whole answer: ``defib compare A B --json`` prints exactly this.

    Attributes:
        before: The first run.
        after: The second; or the same, since its last treatment.
        sentence: The answer in one sentence.
        findings: Every finding of both, gone ones first, the worst first.
        curves: The loss first.
        settings: What differs.
        treated: Treatments given in the second run, and what became of what they were given for.
        notes: What to keep in mind when reading it.
        schema: Name and version of this structure.
    """

    before: Side
    after: Side
    sentence: str
    findings: tuple[FindingChange, ...]
    curves: tuple[CurveChange, ...]
    settings: tuple[SettingChange, ...]
    treated: tuple[Treated, ...] = ()
    notes: tuple[str, ...] = ()
    schema: str = field(default="defib.comparison/1")

    def of(self, state: State) -> tuple[FindingChange, ...]:
        """The findings in one state."""
        return tuple(f for f in self.findings if f.state is state)
