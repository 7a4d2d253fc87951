"""What a pathology is: a cause planted on purpose in an ordinary training, and how it shows.

A pathology is one file in ``lab/pathologies``. It changes a training before it begins,
and tells afterwards from the training itself whether the plant took: units that are
really off on all data, a derivative that is really zero. Nothing of defib's
judgement enters. Whether it did harm is measured against its healthy twin, which is
the same draw without the plant.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from defib.lab.draws import Draw, Kind
from defib.lab.ordinary import weighted
from defib.lab.training import Training

DENSE = (Kind.DIGITS, Kind.BINARY, Kind.REGRESSION)
CLASSES = (Kind.DIGITS, Kind.IMAGES)
ANY = (Kind.DIGITS, Kind.IMAGES, Kind.BINARY, Kind.REGRESSION)

LONG = 1500
"""Steps where the rule asks for some thousand samples before it speaks."""


class Pathology(ABC):
    """One planted cause. A subclass is one file in ``lab/pathologies``.

    Attributes:
        slug: Its name.
        title: What is planted, in a few words.
        rule: The rule whose business it is.
        causes: The causes that name it rightly.
        also: Other rules that name the same thing rightly, seen from another side.
        kinds: What may be learned where it is planted.
        harmful: A sick run counts only if its skill is at most :data:`HARM` of its twin's. False
            for what is worth knowing and does no harm: such a run counts if the plant took.
    """

    slug: ClassVar[str]
    title: ClassVar[str]
    rule: ClassVar[str]
    causes: ClassVar[tuple[str, ...]]
    also: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[tuple[Kind, ...]] = ANY
    harmful: ClassVar[bool] = True

    def fit(self, of: Draw) -> Draw:
        """The draw as this plant needs it; its twin is drawn alike."""
        return of

    @abstractmethod
    def plant(self, job: Training) -> None:
        """Changes the training, which has not begun.

        Args:
            job: Changed in place.
        """

    def shows(self, job: Training) -> bool:
        """:meth:`took`, without gradients being recorded."""
        with torch.no_grad():
            return self.took(job)

    @abstractmethod
    def took(self, job: Training) -> bool:
        """Whether what was planted is really there, measured on the training after its end.

        Args:
            job: The training; for the healthy twin the answer must be no.
        """


HARM = 0.5
"""A harmful plant leaves at most this share of the twin's skill."""


def plain(of: Draw, activation: str | None = None, **changes: object) -> Draw:
    """A draw without normalisation, and with that activation."""
    return replace(of, norm="none", activation=activation or of.activation, **changes)  # type: ignore[arg-type]


def layers(job: Training) -> list[nn.Linear | nn.Conv2d]:
    """The network's linear and convolutional layers."""
    return weighted(job.net)


def hidden(job: Training) -> list[nn.Linear | nn.Conv2d]:
    """All of them but the last."""
    return weighted(job.net)[:-1]


def some_layer(job: Training) -> nn.Linear | nn.Conv2d:
    """A hidden layer by chance."""
    found = hidden(job)
    return found[int(torch.randint(len(found), (1,), generator=job.chance))]


def insert(job: Training, place: int, module: nn.Module) -> None:
    """Puts a module into the network's chain; ``place`` -1 is in front of the last layer."""
    chain = list(job.net.children())
    chain.insert(place, module)
    job.net = nn.Sequential(*chain)


def entering(job: Training, kind: type[nn.Module]) -> list[Tensor]:
    """What enters each module of a kind when the trained network sees its training data."""
    return [pair[0] for pair in _through(job, kind)]


def leaving(job: Training, kind: type[nn.Module]) -> list[Tensor]:
    """What leaves them."""
    return [pair[1] for pair in _through(job, kind)]


def _through(job: Training, kind: type[nn.Module]) -> list[tuple[Tensor, Tensor]]:
    seen = []
    h = job.x[:512]
    with torch.no_grad():
        for module in job.net.children():
            before, h = h, module(h)
            if isinstance(module, kind):
                seen.append((before.float(), h.float()))
    return seen


def per_unit(values: Tensor) -> Tensor:
    """Shape (units, everything else)."""
    return values.transpose(0, 1).flatten(1)


def gradients(job: Training) -> list[Tensor]:
    """The loss's gradient by each layer's weights on one batch; zeros where none arrives."""
    job.net.zero_grad()
    chosen = job.order[-1]
    with torch.enable_grad():
        job.loss(job.net(job.x[chosen]), job.y[chosen]).backward()  # type: ignore[no-untyped-call]
    found = [
        torch.zeros(()) if layer.weight.grad is None else layer.weight.grad.float() for layer in layers(job)
    ]
    job.net.zero_grad()
    return found


def moved(job: Training) -> float:
    """How far the weights went, as a share of where they began (all tensors together)."""
    pairs = [(now.detach().float(), job.start[name].float()) for name, now in job.net.named_parameters()]
    away = sum(float((a - b).square().sum()) for a, b in pairs)
    size = sum(float(b.square().sum()) for _, b in pairs)
    return float((away / max(size, 1e-30)) ** 0.5)
