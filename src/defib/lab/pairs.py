"""What is kept of the proving ground: a sick run and its healthy twin, and when each counts."""

import json
import zlib
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from defib.core.catalogue import entries
from defib.lab.pathology import HARM, Pathology

PACKAGE = "defib.lab.pathologies"
HEALTHY = 0.5
"""A twin counts as healthy from this skill on (0: the best constant, 1: perfect)."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is to be run: one pathology and its twin, under one draw.

    Attributes:
        pathology: Its slug.
        number: Which draw, from 0.
    """

    pathology: str
    number: int

    @property
    def seed(self) -> int:
        """Of the draw; other pathologies have others."""
        return zlib.crc32(f"{self.pathology}-{self.number}".encode()) % 2**31


@dataclass(frozen=True, kw_only=True)
class Named:
    """One finding, as far as the scoreboard asks.

    Attributes:
        rule: Who found it.
        cause: Why.
        fault: Its word.
        severity: How bad.
        depth: 0 for a finding of its own, 1 and more below the finding that explains it.
    """

    rule: str
    cause: str
    fault: str
    severity: str
    depth: int

    @property
    def alarming(self) -> bool:
        """Whether it stands by itself and is a warning or worse."""
        return self.depth == 0 and self.severity != "info"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One run and its diagnosis.

    Attributes:
        skill: 0 for the best constant's answers, 1 for perfect ones.
        took: Whether the planted condition is there, measured on the training.
        verdict: The diagnosis in one word.
        findings: In order, those explained behind those that explain them.
        faults: Faults of the watcher's own.
        seconds: Wall time of training and diagnosis.
    """

    skill: float
    took: bool
    verdict: str
    findings: tuple[Named, ...]
    faults: int
    seconds: float

    @property
    def first(self) -> Named | None:
        """The finding that a user reads first; None if there is none."""
        return self.findings[0] if self.findings else None

    @property
    def alarms(self) -> tuple[Named, ...]:
        """Findings that stand by themselves and are a warning or worse."""
        return tuple(found for found in self.findings if found.alarming)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A sick run and its healthy twin.

    Attributes:
        trial: What was asked for.
        drawn: The training, as it was drawn.
        sick: With the plant.
        twin: Without it.
    """

    trial: Trial
    drawn: dict[str, Any]
    sick: Seen
    twin: Seen

    @property
    def twin_counts(self) -> bool:
        """Whether the twin learned and is free of the condition."""
        return self.twin.skill >= HEALTHY and not self.twin.took

    @property
    def harmed(self) -> bool:
        """Whether the plant left at most :data:`HARM` of a healthy twin's skill."""
        return self.twin.skill >= HEALTHY and self.sick.skill <= HARM * self.twin.skill

    @property
    def sick_counts(self) -> bool:
        """Whether the plant took, and did the harm that it is planted for."""
        return self.sick.took and (self.harmed or not pathologies()[self.trial.pathology].harmful)


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A pair that ended without a result.

    Attributes:
        trial: What was asked for.
        why: The error, in one line.
    """

    trial: Trial
    why: str


@cache
def pathologies() -> dict[str, type[Pathology]]:
    """Every pathology by slug, in order of its rule."""
    found = entries(Pathology, PACKAGE)  # type: ignore[type-abstract]
    return {cls.slug: cls for cls in sorted(found, key=lambda cls: (cls.rule, cls.slug))}


def written(pair: Pair) -> str:
    """As JSON."""
    return json.dumps(asdict(pair), indent=1)


def read(text: str) -> Pair:
    """The pair that was written.

    Args:
        text: What :func:`written` gave.

    Returns:
        The pair.
    """
    told = json.loads(text)
    runs = {
        name: Seen(**{**told[name], "findings": tuple(Named(**found) for found in told[name]["findings"])})
        for name in ("sick", "twin")
    }
    return Pair(trial=Trial(**told["trial"]), drawn=told["drawn"], **runs)
