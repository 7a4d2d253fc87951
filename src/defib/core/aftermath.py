"""What became of a finding after a treatment."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Aftermath(StrEnum):
    """What became of a finding after a treatment that was given for it."""

    GONE = "gone"
    """It is not found any more in what was seen since."""
    EASED = "eased"
    """It is there, and harms no longer: information only."""
    STAYS = "stays"
    """It is found in what was seen since, as a warning or worse."""
    TOO_EARLY = "too-early"
    """It is not found, and fewer steps were seen since than it takes to find it."""
    NOT_ASKED = "not-asked"
    """The treatment was asked for by a person and not for a finding; or it was refused, or taken back."""


@dataclass(frozen=True, kw_only=True)
class Treated:
    """One treatment of the run, and what came of it.

    Attributes:
        step: Optimiser steps taken when it was given.
        treatment: Its slug.
        stage: "done", "refused", "rolled-back", "failed", or "undone" (given, and later taken back).
        rule: The finding that it was given for; "" if a person asked for it.
        layer: That finding's layer; "" for the whole model.
        dose: How much, and where.
        why: Why it was not given, or was taken back; "" if it was given and stayed.
        steps_since: Optimiser steps seen since, up to the next treatment for the same finding.
        aftermath: What became of the finding.
    """

    step: int
    treatment: str
    stage: str
    rule: str
    layer: str
    dose: dict[str, Any]
    why: str
    steps_since: int
    aftermath: Aftermath
