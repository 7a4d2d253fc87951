"""The whole answer about a run. Plain data that becomes JSON and back."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from defib.core.aftermath import Treated
from defib.core.coverage import Coverage, Overhead
from defib.core.finding import Finding


class Verdict(StrEnum):
    """The answer in one word."""

    HEALTHY = "healthy"
    SICK = "sick"
    NOT_OBSERVED = "not-observed"


@dataclass(frozen=True, kw_only=True)
class NotRun:
    """A rule that broke or could not be judged; the others went on."""

    rule: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The whole answer: ``defib diagnose RUN --json`` prints exactly this.

    Attributes:
        run: Facts about the run: path, script, versions, started, status.
        verdict: healthy, sick (a finding of warning or worse) or not-observed.
        coverage: How much was seen.
        overhead: What watching cost.
        findings: Ranked, the most fundamental first.
        not_run: Rules that broke.
        treated: Treatments that were given while it ran, in order of time.
        schema: Name and version of this structure.
    """

    run: dict[str, Any]
    verdict: Verdict
    coverage: Coverage
    overhead: Overhead
    findings: tuple[Finding, ...]
    not_run: tuple[NotRun, ...] = ()
    treated: tuple[Treated, ...] = ()
    schema: str = field(default="defib.diagnosis/1")
