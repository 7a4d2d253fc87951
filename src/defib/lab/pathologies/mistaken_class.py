"""Four of five samples of one class carry the label of another."""

from dataclasses import replace

import torch

from defib.lab.draws import Draw
from defib.lab.pathology import CLASSES, LONG, Pathology
from defib.lab.training import Training


class MistakenClass(Pathology):
    """Most samples of one class carry another's label."""

    slug = "mistaken-class"
    title = "most samples of one class carry another's label"
    rule = "confused-classes"
    causes = ("classes-confused",)
    kinds = CLASSES
    harmful = False

    def fit(self, of: Draw) -> Draw:
        return replace(of, steps=LONG)

    def plant(self, job: Training) -> None:
        wrong, other = torch.randperm(10, generator=job.chance)[:2].tolist()
        mine = (job.y == wrong).nonzero().flatten()
        job.y = job.y.clone()
        job.y[mine[: int(0.8 * len(mine))]] = other

    def took(self, job: Training) -> bool:
        guess, truth = job.answers().argmax(1), job.y_test
        counts = torch.bincount(truth * 10 + guess, minlength=100).reshape(10, 10).float()
        counts.fill_diagonal_(0)
        return float((counts.amax(1) / torch.bincount(truth, minlength=10)).max()) > 0.5
