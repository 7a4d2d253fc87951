"""What an experiment is: one file that settles claims by measuring.

Its module docstring is its page, with the headings of :data:`HEADINGS`. Its class
names the rows of the list of claims (``lab/claims.toml``) that it settles, declares
its dials, and brings perturbations: changes of the mechanism under which the verdict
on a claim must change. They are its tests.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch

from defib.lab.estimate import Estimate, Region, Verdict, joined
from defib.lab.figure import Figure

D = TypeVar("D")
T = TypeVar("T")

HEADINGS = ("Claim", "Prediction", "Method", "References")


class Topic(StrEnum):
    """Under what an experiment is listed."""

    DYING_RELU = "dying ReLU"
    ESCAPE = "escape devices"
    GRADIENTS = "vanishing and exploding"
    INITIALISATION = "initialisation"
    ACTIVATIONS = "activations"
    NUMERICS = "numerics"
    CAUSALITY = "zero-gradient causality"
    STATIONARY = "stationary points"
    SPARSITY = "sparsity"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A figure that somebody else printed, to stand beside ours.

    Attributes:
        value: The figure.
        source: Who printed it, where.
    """

    value: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that a claim says, put so that a number can contradict it.

    Attributes:
        row: Which claim: "S0-1".
        says: The statement, as the claim makes it, in one sentence.
        estimate: What was measured.
        region: Where the number lies if the claim is right.
        published: A printed figure for the same number; None if there is none.
    """

    row: str
    says: str
    estimate: Estimate
    region: Region
    published: Published | None = None

    @property
    def verdict(self) -> Verdict:
        """What the number says."""
        return self.region.judge(self.estimate)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one run of an experiment found.

    Attributes:
        parts: Every statement with its number.
        figure: The plot.
        note: What a reader should know about these numbers; "" for nothing.
    """

    parts: tuple[Part, ...]
    figure: Figure
    note: str = ""

    def verdicts(self) -> dict[str, Verdict]:
        """The verdict on each row, from its parts."""
        rows = dict.fromkeys(part.row for part in self.parts)
        return {row: joined([p.verdict for p in self.parts if p.row == row]) for row in rows}


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """A change of the mechanism that must change a verdict.

    Attributes:
        why: What is changed, and why the verdict cannot stay.
        dials: The dials that make the change.
        changes: Rows whose verdict must be another.
    """

    why: str
    dials: Mapping[str, Any]
    changes: tuple[str, ...]


@dataclass(kw_only=True)
class LabRun:
    """One run of an experiment: its seed, its sources of chance, its progress.

    Attributes:
        seed: Of everything random in it.
        told: Called with the share done, between 0 and 1.
    """

    seed: int
    told: Callable[[float], None] = field(default=lambda _share: None)

    def torch(self, *which: int) -> torch.Generator:
        """A torch generator of its own for each ``which`` (a repetition, an arm ...)."""
        return torch.Generator().manual_seed(int(self._state(which)[0]))

    def numpy(self, *which: int) -> np.random.Generator:
        """A numpy generator of its own for each ``which``."""
        return np.random.default_rng(self._state(which))

    def track(self, items: Iterable[T]) -> Iterator[T]:
        """The same items, telling how far the experiment is."""
        known = list(items)
        for number, item in enumerate(known):
            self.told(number / len(known))
            yield item
        self.told(1.0)

    def _state(self, which: tuple[int, ...]) -> "np.ndarray[Any, np.dtype[np.uint64]]":
        return np.random.SeedSequence([self.seed, *which]).generate_state(2, np.uint64) >> np.uint64(1)


class Experiment(ABC, Generic[D]):
    """Settles claims by measuring. A subclass is one file in ``lab/experiments``.

    Attributes:
        slug: Its name on the command line.
        title: The question, in one line.
        topic: Under what it is listed.
        rows: The claims that its parts are about.
        dials: A frozen dataclass of ``lab.dials.dial`` fields.
        perturbations: Changes of the mechanism that must change a verdict.
    """

    slug: ClassVar[str]
    title: ClassVar[str]
    topic: ClassVar[Topic]
    rows: ClassVar[tuple[str, ...]]
    dials: ClassVar[type[Any]]
    perturbations: ClassVar[tuple[Perturbation, ...]]

    @abstractmethod
    def measure(self, dials: D, run: LabRun) -> Measurement:
        """Does the experiment.

        Args:
            dials: Its settings.
            run: Where chance comes from, and who is told how far it is.

        Returns:
            At least one part for each of ``rows``.
        """
