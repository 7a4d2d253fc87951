"""Sequences are padded in front to more than twice their length with one token."""

from dataclasses import replace

from torch.nn import functional

from defib.lab.draws import Draw, Kind
from defib.lab.ordinary import TOKENS
from defib.lab.pathology import LONG, Pathology
from defib.lab.training import Training


class Padding(Pathology):
    """Sequences are padded to more than twice their length."""

    slug = "padding"
    title = "sequences are padded to more than twice their length"
    rule = "repeated-token"
    causes = ("repeated-token",)
    kinds = (Kind.SEQUENCES,)
    harmful = False

    def fit(self, of: Draw) -> Draw:
        return replace(of, steps=LONG)

    def plant(self, job: Training) -> None:
        job.x, job.x_test = (functional.pad(x, (16, 0), value=TOKENS - 1) for x in (job.x, job.x_test))

    def took(self, job: Training) -> bool:
        return float((job.x == job.x.flatten().mode().values).float().mean()) >= 0.5
