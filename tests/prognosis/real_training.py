"""Real training of small networks on digits, in which first-layer units die, and what then became of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import defib
from defib.core.prognosis import Outlook, Prognosis
from defib.diagnosis.prognosis.foresight import foresee
from defib.diagnosis.prognosis.of_run import remains_of

Optimizers = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
HIDDEN = 24


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One training.

    Attributes:
        make: Gives the optimiser.
        steps: Optimiser steps.
        seed: Of everything.
        plant: Steps on which units are pushed below zero by hand, four at a time.
        depth: How far below zero, over the spread of their pre-activations.
        centred: Data with mean 0, on which units die less easily.
        jolt: Step on which the learning rate is 30 times its own, so that units die by themselves. Nothing
            is asked before it.
        samples: Different samples of the data.
    """

    make: Optimizers
    steps: int = 400
    seed: int = 0
    plant: tuple[int, ...] = (60, 150)
    depth: float = 0.1
    centred: bool = False
    jolt: int = 40
    samples: int = 300


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One answer about one unit, and what happened.

    Attributes:
        unit: Which one.
        at: Steps taken when it was asked.
        outlook: The answer.
        said: The step it said; None if it said none.
        exact: It said that it is exact.
        seen: The first step from then on whose forward pass fires it for some sample; None if none did.
        end: Steps of the training.
        planted: Killed by hand.
    """

    unit: int
    at: int
    outlook: Outlook
    said: int | None
    exact: bool
    seen: int | None
    end: int
    planted: bool

    @property
    def right(self) -> bool:
        """What was said is what happened, as far as the training went."""
        if self.outlook is Outlook.RETURNS and self.said is not None and self.said < self.end:
            return self.said == self.seen
        return self.seen is None and self.outlook is not Outlook.UNKNOWN


@dataclass
class Training:
    """A training under way; ``alive[t]`` is what the forward pass of step t sees on all the data."""

    plan: Plan
    alive: list[np.ndarray] = field(default_factory=list)
    planted: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        torch.manual_seed(self.plan.seed)
        digits, labels = load_digits(return_X_y=True)
        chosen = np.random.default_rng(self.plan.seed).permutation(len(digits))[: self.plan.samples]
        data = torch.tensor(digits[chosen] / 16, dtype=torch.float32)
        self.data = data - data.mean(0) if self.plan.centred else data
        self.labels = torch.tensor(labels[chosen])
        self.model = nn.Sequential(
            nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 16), nn.ReLU(), nn.Linear(16, 10)
        )
        self.first: nn.Linear = self.model[0]  # type: ignore[assignment]
        self.optimizer = self.plan.make(list(self.model.parameters()))

    def __iter__(self) -> Iterator[int]:
        """Steps; the body runs between two of them, ``t`` steps having been taken."""
        order = torch.Generator().manual_seed(self.plan.seed)
        for t in range(self.plan.steps):
            if t in self.plan.plant:
                self._kill(t)
            with torch.no_grad():
                self.alive.append((self.first(self.data) > 0).any(0).numpy())
            yield t
            self._step(t, torch.randperm(len(self.data), generator=order)[:30])

    def _step(self, t: int, batch: torch.Tensor) -> None:
        loss = nn.functional.cross_entropy(self.model(self.data[batch]), self.labels[batch])
        self.optimizer.zero_grad()
        loss.backward()
        jolted = t == self.plan.jolt
        for group in self.optimizer.param_groups:
            group["lr"] *= 30 if jolted else 1
        self.optimizer.step()
        for group in self.optimizer.param_groups:
            group["lr"] /= 30 if jolted else 1

    def _kill(self, t: int) -> None:
        """Pushes the biases of four units that are alive so far that they fire for no sample."""
        with torch.no_grad():
            z = self.first(self.data)
            for unit in torch.nonzero((z > 0).any(0)).flatten()[:4].tolist():
                self.first.bias[unit] -= z[:, unit].max() + self.plan.depth * z[:, unit].std()
                self.planted.add((unit, t))

    def returned(self, unit: int, at: int) -> int | None:
        """First step from ``at`` on whose forward pass fires the unit."""
        return next((t for t in range(at, len(self.alive)) if self.alive[t][unit]), None)

    def judged(self, answers: list[tuple[int, Prognosis, int]]) -> list[Verdict]:
        """Answers (unit, prognosis, steps taken) beside what happened; after the training."""
        found = []
        for unit, prognosis, at in answers:
            said = prognosis.steps[prognosis.units.index(unit)] if prognosis.steps else None
            verdict = Verdict(
                unit=unit,
                at=at,
                outlook=prognosis.outlook,
                said=said,
                exact=prognosis.exact,
                seen=self.returned(unit, at),
                end=len(self.alive),
                planted=any(u == unit and t <= at for u, t in self.planted),
            )
            found.append(verdict)
        return found


def exact_verdicts(plan: Plan, most: int = 4) -> list[Verdict]:
    """The exact form, asked on the step on which a first-layer unit dies (or is born dead).

    Units that L2 has shrunk to nothing die and come back every other step: each is asked ``most`` times.
    """
    training, answers = Training(plan), []
    before, asked = np.ones(HIDDEN, bool), np.zeros(HIDDEN, int)
    for t in training:
        died = np.flatnonzero(before & ~training.alive[t] & (asked < most))
        if t <= plan.jolt:  # what it will do is not to be foreseen; units that it killed are asked after it
            continue
        before = training.alive[t]
        asked[died] += 1
        if len(died):
            forecast = defib.prognose(
                training.model, training.optimizer, training.data, horizon=plan.steps - t + 1
            )
            for p in forecast.prognoses:
                if p.path == "0":
                    later = replace(p, steps=tuple(s + t for s in p.steps))
                    answers += [(unit, later, t) for unit in p.units if unit in died]
    return training.judged(answers)


def record_verdicts(plan: Plan, folder: Path, every: int = 40) -> tuple[list[Verdict], int]:
    """What the record alone says, asked every so often, and on how many samples at most."""
    training, answers, samples = Training(plan), [], 0
    with defib.watch(training.model, training.optimizer, output=folder, budget=0.5) as run:
        for t in training:
            if t % every or t <= plan.jolt:
                continue
            remains = remains_of(run.view).get("0")
            if remains is None or remains.step != t:
                continue
            samples = max(samples, len(remains.features))
            for p in foresee(remains, plan.steps - t + 1):
                answers += [(unit, p, t) for unit in p.units if not training.alive[t][unit]]
        assert run.faults == 0
    return training.judged(answers), samples
