"""What to do about a finding: plain data, JSON-able."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from defib.core.cause import Cause

Value = float | int | str | bool | tuple[float, ...] | tuple[str, ...]

Dose = Mapping[str, Value]
"""How much, and where: a treatment's own names and numbers; its page explains each."""


PLAN = "defib.prescription/1"
"""Name and version of the structure that ``defib prescribe --json`` prints."""


class Safety(StrEnum):
    """What a treatment does to a network that has already learnt something; from harmless to harsh."""

    PRESERVES = "preserves-function"
    """Outputs stay as they are, bit for bit or within the rounding that its page states."""
    SETTINGS = "changes-training"
    """Only how the optimiser goes on from here; the network itself is left alone."""
    CHANGES = "changes-function"
    """The network answers differently from this moment on."""
    RESTART = "needs-restart"
    """What was learnt is lost, or it only helps from the first step on."""
    SOURCE = "source-change"
    """Only the user's source can be changed: a patch is shown, nothing is done."""

    @property
    def rank(self) -> int:
        """0 for the most harmless."""
        return list(Safety).index(self)


@dataclass(frozen=True, kw_only=True)
class Prescription:
    """One treatment for one finding.

    Attributes:
        treatment: Slug of the treatment; ``defib explain SLUG`` is its page.
        rule: Slug of the rule whose finding it is for; "" if a person asked for it.
        cause: That finding's cause; None if a person asked for it.
        layer: That finding's layer; "" for the whole model.
        safety: What it does to the network.
        dose: How much, computed from the evidence.
        reason: Why this, one sentence for a person.
        strength: Expected help between 0 and 1, by which prescriptions for one finding are ranked:
            1 removes the cause, 0.5 makes it harmless, below that it only eases it.
        patch: What to change in the source, as text; "" if nothing needs to be.
        message: The finding in one sentence; "" if a person asked for it.
        at: Optimiser step at which to give it in a run from the start; 0 for before the first.
    """

    treatment: str
    rule: str
    cause: Cause | None
    layer: str
    safety: Safety
    reason: str
    strength: float
    dose: Dose = field(default_factory=dict)
    patch: str = ""
    message: str = ""
    at: int = 0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The whole answer: ``defib prescribe RUN --json`` prints exactly this.

    Attributes:
        run: Facts about the run: path, script, versions, started, status.
        verdict: The diagnosis in one word.
        prescriptions: For each finding, in their order, its treatments, the most promising first.
        schema: Name and version of this structure.
    """

    run: dict[str, Any]
    verdict: str
    prescriptions: tuple[Prescription, ...]
    schema: str = PLAN
