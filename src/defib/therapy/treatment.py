"""What a treatment is: one file that changes one thing.

A treatment's module docstring is its page, with the headings of :data:`HEADINGS`.
Its class declares what it is good for and what it does to the network, computes
its dose from the evidence alone, and operates through :class:`Surgery` only,
which makes it all or nothing and undoable. Rules never name treatments;
treatments name the findings that they are indicated for.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.core.prescription import Dose, Prescription, Safety
from defib.core.run import RunView
from defib.therapy.surgery import Surgery
from defib.therapy.train_state import TrainState

HEADINGS = (
    "What it does",
    "When it helps",
    "When it does not",
    "Dose",
    "Safety",
    "References",
)


@dataclass(frozen=True, kw_only=True)
class Indication:
    """Findings that a treatment is good for.

    Attributes:
        rule: Slug of the rule.
        causes: Causes of its findings; empty for any.
        strength: As in :class:`defib.core.prescription.Prescription`.
        why: Why it helps there, one sentence; it becomes the prescription's reason.
    """

    rule: str
    strength: float
    why: str
    causes: tuple[Cause, ...] = ()

    def fits(self, finding: Finding) -> bool:
        """Whether this finding is meant."""
        return finding.rule == self.rule and (not self.causes or finding.cause in self.causes)


@dataclass(frozen=True, kw_only=True)
class Case:
    """An example that is a test: the treatment is applied, judged and undone bit for bit.

    Attributes:
        name: What is treated.
        build: Makes a training state (a few optimiser steps taken, so that there is state).
        dose: What is given.
        holds: Whether the treated state is as it should be, given the state before as built.
        preserves: The model's outputs on ``inputs`` stay within ``tolerance``.
        tolerance: Largest absolute difference of outputs; 0 for bit-equal.
        inputs: Makes what the model is called with.
        refused: The treatment must be refused.
    """

    name: str
    build: Callable[[], TrainState]
    dose: Dose
    holds: Callable[[TrainState], bool] = lambda _state: True
    preserves: bool = False
    tolerance: float = 0.0
    inputs: Callable[[], tuple[object, ...]] | None = None
    refused: bool = False


class Treatment(ABC):
    """Changes one thing. A subclass is one file in ``therapy/treatments``.

    Attributes:
        slug: Its name on the command line.
        title: One line.
        safety: What it does to the network.
        indications: What it is good for.
        CASES: Examples, of which at least one is applied and one refused where it can be.
    """

    slug: ClassVar[str]
    title: ClassVar[str]
    safety: ClassVar[Safety]
    indications: ClassVar[tuple[Indication, ...]]
    CASES: ClassVar[tuple[Case, ...]] = ()

    def prescribe(self, finding: Finding, run: RunView) -> Prescription | None:
        """This treatment for that finding, with its dose; None if it is not indicated."""
        indication = next((i for i in self.indications if i.fits(finding)), None)
        dose = None if indication is None else self.dose(finding, run)
        if indication is None or dose is None:
            return None
        return Prescription(
            treatment=self.slug,
            rule=finding.rule,
            cause=finding.cause,
            layer=finding.layer,
            safety=self.safety,
            reason=indication.why,
            strength=indication.strength,
            dose=dose,
            patch=self.patch(finding, run, dose),
            message=finding.message,
        )

    @abstractmethod
    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        """How much and where, from the evidence; None if the evidence does not support it."""

    @abstractmethod
    def operate(self, surgery: Surgery, dose: Dose) -> None:
        """Edits the state. What cannot be done safely raises ``Refused`` before or between edits.

        Args:
            surgery: The only way to change anything.
            dose: As prescribed, or as a person typed it (``--treat SLUG:key=value``).
        """

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        """A dose without a look at the evidence, for the random arm of a trial.

        Args:
            draw: The only source of chance.
            layers: Paths of the model's layers.

        Returns:
            A dose that could be typed; by default one layer and nothing else.
        """
        return {"layer": draw.choice(list(layers))} if layers else {}

    def patch(self, finding: Finding, run: RunView, dose: Dose) -> str:
        """What to change in the source instead, or as well; "" for nothing."""
        del finding, run, dose
        return ""
