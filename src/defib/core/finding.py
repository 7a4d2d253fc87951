"""One cause of trouble, with its proof. Plain data that becomes JSON and back."""

from dataclasses import dataclass
from enum import StrEnum

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.prognosis import Prognosis


class Severity(StrEnum):
    """How much harm a finding does to learning; ordered from worst to least."""

    ERROR = "error"
    """The run cannot reach its goal like this."""
    WARNING = "warning"
    """It learns less, or later, than it could."""
    INFO = "info"
    """Worth knowing; a healthy run may have it."""

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)


class Confidence(StrEnum):
    """What a finding rests on."""

    EXACT = "exact"
    """Counted on every step; no estimate enters."""
    MEASURED = "measured"
    """Measured on sampled steps, with the bound stated in the evidence."""
    INFERRED = "inferred"
    """Concluded from other signals; the direct one was not observed."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One cause of trouble, with its proof.

    Attributes:
        rule: Slug of the rule that found it; ``defib explain SLUG`` is its page.
        fault: One word of the vocabulary that scorers read.
        severity: Harm done to learning.
        confidence: What it rests on.
        layer: Module path as the user knows it; "" for the whole model.
        call: Which use of that layer in one forward pass, from 0.
        units: Indices along the layer's unit axis, sorted; empty if not per unit.
        units_total: How many units the layer has; 0 if not per unit.
        since_step: First optimiser step (from 0) at which it held; None if unknown.
        cause: Why.
        message: One sentence for a person.
        evidence: The numbers.
        modules: Module paths from the layer to its activation ("conv1", "bn1", "relu1").
        explains: Findings that this one causes; they are listed here and nowhere else.
        try_next: Commands or code to type next.
        prognosis: Whether its units come back by themselves; empty if nothing was kept to tell it by.
    """

    rule: str
    fault: Fault
    severity: Severity
    confidence: Confidence
    layer: str
    cause: Cause
    message: str
    call: int = 0
    units: tuple[int, ...] = ()
    units_total: int = 0
    since_step: int | None = None
    evidence: tuple[Evidence, ...] = ()
    modules: tuple[str, ...] = ()
    explains: tuple["Finding", ...] = ()
    try_next: tuple[str, ...] = ()
    prognosis: tuple[Prognosis, ...] = ()
