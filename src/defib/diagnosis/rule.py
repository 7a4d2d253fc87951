"""What a rule is: one file that judges one fault.

A rule's module docstring is its page, with the headings of :data:`HEADINGS`. Its
class declares limits, causes and consequences, and brings its own examples,
sick and healthy: they are its tests. A rule is pure: it reads a ``RunView`` and
returns findings, and never names a treatment.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import ClassVar

from defib.core.cause import Cause, Fault
from defib.core.errors import UsageError
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.run import RunView

HEADINGS = (
    "What it measures",
    "Why it hurts",
    "Causes",
    "Prognosis",
    "Example",
    "False alarms",
    "References",
)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A number that a rule compares with; users set it in ``[tool.defib.rules.SLUG]``.

    Attributes:
        name: As it is written in the settings.
        default: Used unless set.
        unit: "decades", "steps", "1" for a ratio.
        meaning: What it is compared with.
        reason: Why the default is what it is.
    """

    name: str
    default: float
    unit: str
    meaning: str
    reason: str


class Place(Enum):
    """Where a consequence stands, seen from its cause."""

    ANYWHERE = "anywhere"
    UPSTREAM = "upstream"
    """Nearer to the model's input, or the same layer."""
    DOWNSTREAM = "downstream"
    """Nearer to the loss."""


@dataclass(frozen=True, kw_only=True)
class Consequence:
    """One arrow of the graph of explanations: findings of this rule explain findings of another.

    Attributes:
        rule: Slug of the rule whose findings are explained.
        why: The physics in one sentence.
        when: Causes of the explaining finding; empty for any.
        causes: Causes of the explained finding; empty for any.
        place: Where the explained finding stands.
        share: Least share of the layer's units that the explaining finding names.
        harmful: Only an explaining finding that is a warning or worse counts.
        delay: Fewest steps from the explaining to the explained finding; -1 lets it come before.
        within: Most steps from the explaining to the explained finding; None for any number.
    """

    rule: str
    why: str
    when: tuple[Cause, ...] = ()
    causes: tuple[Cause, ...] = ()
    place: Place = Place.ANYWHERE
    share: float = 0.0
    harmful: bool = False
    delay: int = 0
    within: int | None = None


def harms(*effects: tuple[str, str]) -> tuple[Consequence, ...]:
    """The usual arrows of a harmful cause: to those rules' findings, wherever and whenever they show.

    Args:
        *effects: Slug of the rule whose findings are explained, and why.

    Returns:
        One arrow for each.
    """
    return tuple(Consequence(rule=rule, why=why, harmful=True, delay=-1) for rule, why in effects)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """One finding that a case must bring.

    Attributes:
        cause: Its cause.
        severity: Its severity.
        layer: Its layer; None for any.
        units: Its units; None for any.
        since_step: Its first step; None for any.
    """

    cause: Cause
    severity: Severity
    layer: str | None = None
    units: tuple[int, ...] | None = None
    since_step: int | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """An example that is a test.

    Attributes:
        name: What is the matter, or why nothing is.
        build: Makes the run.
        expect: The findings that this rule must return, in order; empty for a healthy one.
    """

    name: str
    build: Callable[[], RunView]
    expect: tuple[Expected, ...] = ()


class Rule(ABC):
    """Judges one fault. A subclass is one file in ``diagnosis/rules``.

    Attributes:
        slug: Its name on the command line.
        fault: The word of the vocabulary that its findings carry.
        title: One line.
        rank: How near to the root of things it looks; of two findings of equal severity the
            lower rank comes first. 0 nothing was seen, 10 data, 20 loss, 30 numbers, 40 signals
            and units, 50 optimisation.
        causes: The causes that it can name; its page explains each.
        limits: The numbers that it compares with.
        consequences: What its findings explain.
        faults: Causes whose findings carry another word than ``fault``.
        last_resort: Its findings count only where no other rule has a warning or worse.
        CASES: Sick and healthy examples.
    """

    slug: ClassVar[str]
    fault: ClassVar[Fault]
    title: ClassVar[str]
    rank: ClassVar[int]
    causes: ClassVar[tuple[Cause, ...]]
    limits: ClassVar[tuple[Limit, ...]] = ()
    consequences: ClassVar[tuple[Consequence, ...]] = ()
    faults: ClassVar[Mapping[Cause, Fault]] = MappingProxyType({})
    last_resort: ClassVar[bool] = False
    CASES: ClassVar[tuple[Case, ...]] = ()

    def __init__(self, settings: Mapping[str, float] | None = None) -> None:
        """Takes the limits that a user has set.

        Args:
            settings: Values by the limits' names.

        Raises:
            UsageError: If there is no limit of that name.
        """
        given = dict(settings or {})
        self._limits = {limit.name: given.pop(limit.name, limit.default) for limit in self.limits}
        if given:
            names = ", ".join(self._limits) or "none"
            raise UsageError(f"{self.slug} has no limit {min(given)!r}; there are: {names}")

    def limit(self, name: str) -> float:
        """The value in force of the limit called ``name``."""
        return self._limits[name]

    @classmethod
    def fault_of(cls, cause: Cause) -> Fault:
        """The word of the vocabulary for findings of this cause."""
        return cls.faults.get(cause, cls.fault)

    def found(
        self,
        cause: Cause,
        severity: Severity,
        message: str,
        *,
        evidence: tuple[Evidence, ...] = (),
        confidence: Confidence = Confidence.MEASURED,
        layer: str = "",
        since_step: int | None = None,
    ) -> Finding:
        """A finding of this rule that is about a layer as a whole, or the whole run."""
        return Finding(
            rule=self.slug,
            fault=self.fault_of(cause),
            severity=severity,
            confidence=confidence,
            layer=layer,
            since_step=since_step,
            cause=cause,
            message=message,
            evidence=evidence,
        )

    @abstractmethod
    def check(self, run: RunView) -> Iterable[Finding]:
        """What is wrong with this run, as far as this rule can tell.

        Args:
            run: All that was seen; never changed.
        """
