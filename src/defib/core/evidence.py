"""The numbers that an answer rests on, and what was not observed. Plain data that becomes JSON and back."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One number that a finding rests on.

    Attributes:
        name: What was measured, in words.
        value: The number (or a short text where a number says nothing).
        unit: Its unit: "units", "steps", "decades", "1" for a ratio.
    """

    name: str
    value: float | int | str
    unit: str = "1"


DAMAGED = "damaged"
"""Stands in the reason of whatever was recorded and cannot be read back: no such run is called healthy."""


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """Something that was not observed, and why. Never taken as healthy, never as dead.

    Attributes:
        what: Module path, parameter name or "run".
        why: Reason in a few words ("runs inside torch.compile").
    """

    what: str
    why: str
