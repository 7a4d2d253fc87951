"""Whether a unit that stopped learning will learn again: plain data, JSON-able."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from defib.core.evidence import Evidence, Unseen


class Outlook(StrEnum):
    """The answer in one word."""

    RETURNS = "returns"
    """It comes back by itself, at the step named."""
    NEVER = "never"
    """Nothing that acts on it while its gradient is zero can bring it back."""
    UPSTREAM = "depends-on-upstream"
    """Not by itself; only if the layers that feed it move."""
    BEYOND = "beyond-horizon"
    """Not within the steps that were looked at; later was not excluded."""
    UNKNOWN = "unknown"
    """It cannot be said: an optimiser that defib does not know, or data that was not kept."""


class Mechanism(StrEnum):
    """What moves a unit while its gradient is exactly zero."""

    NOTHING = "nothing"
    """Neither momentum nor decay acts on it."""
    MOMENTUM = "momentum"
    """The optimiser's stored momentum carries it on."""
    DECAY = "weight-decay"
    """Weight decay shrinks weights and bias alike, or only one of the two."""
    OSCILLATION = "underdamped-decay"
    """Decay and momentum together are an underdamped oscillator: the pre-activation changes sign."""
    NORMALISED_DECAY = "normalised-decay"
    """Adam and its kin divide the coupled decay by its own size: a walk towards zero at lr a step."""
    UPSTREAM = "upstream"
    """The features that feed it move."""
    GRADIENT = "gradient"
    """Its gradient is small, not zero: it creeps back by itself."""


@dataclass(frozen=True, kw_only=True)
class Prognosis:
    """What will become of some units of one layer.

    Attributes:
        path: The layer.
        units: Indices of the units that share this answer, sorted.
        outlook: The answer.
        mechanism: What it rests on.
        step: First optimiser step (from 0, in the run's own count) on which the first of them fires
            again; None unless ``outlook`` is RETURNS.
        steps: For each of ``units`` its own first step, same order; empty unless RETURNS.
        as_of: Optimiser steps taken when the state was looked at.
        samples: On how many samples the answer was computed; the data's range is covered no further.
        exact: The optimiser's own arithmetic was followed to the step; False for an estimate.
        horizon: Steps looked ahead; None if the answer holds for all time.
        reason: One sentence for a person.
        evidence: The numbers.
    """

    path: str
    units: tuple[int, ...]
    outlook: Outlook
    mechanism: Mechanism
    reason: str
    as_of: int
    samples: int
    exact: bool
    step: int | None = None
    steps: tuple[int, ...] = ()
    horizon: int | None = None
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How often silent units of a layer came back in this run so far.

    A silence is a stretch of at least ``core.reading.EPISODE_STEPS`` steps without a gradient.

    Attributes:
        path: The layer.
        returned: Silences that ended.
        open: Silences that last still; they may end, too.
        within: A number of steps.
        share: Estimated share of silences that end within that many steps (Kaplan-Meier: those that last
            still count for as long as they were seen). Lengths of ended ones are known to their power of 2.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    path: str
    returned: int
    open: int
    within: int
    share: float
    low: float
    high: float

    @property
    def episodes(self) -> int:
        """All silences."""
        return self.returned + self.open


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The whole answer of ``defib prognose``.

    Attributes:
        facts: What was looked at: record or model, steps, dead units.
        prognoses: In order of data flow, soonest return first within a layer.
        recoveries: For each layer with silences, how often they ended in this run.
        assumed: What the answers take for granted, in sentences.
        unseen: What could not be looked at, and why.
        schema: Name and version of this structure.
    """

    facts: dict[str, Any]
    prognoses: tuple[Prognosis, ...]
    recoveries: tuple[Recovery, ...] = ()
    assumed: tuple[str, ...] = ()
    unseen: tuple[Unseen, ...] = ()
    schema: str = field(default="defib.forecast/1")
