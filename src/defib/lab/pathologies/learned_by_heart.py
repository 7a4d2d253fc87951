"""Eighty samples, a third of them with labels at random: they are learned by heart."""

from dataclasses import replace

import torch

from defib.lab.draws import Draw
from defib.lab.pathology import CLASSES, Pathology
from defib.lab.training import Training


class LearnedByHeart(Pathology):
    """Few samples, a third of them mislabelled, are learned by heart."""

    slug = "learned-by-heart"
    title = "few samples, a third of them mislabelled, are learned by heart"
    rule = "overfit"
    causes = ("overfitted", "not-generalising")
    kinds = CLASSES
    harmful = False

    def fit(self, of: Draw) -> Draw:
        return replace(of, optimiser="adam", rate=4e-3, steps=300)

    def plant(self, job: Training) -> None:
        job.x, job.y = job.x[:80], job.y[:80].clone()
        job.y[:27] = torch.randint(0, 10, (27,), generator=job.chance)
        job.order = [torch.randperm(80, generator=job.chance)[: job.draw.batch] for _ in job.order]
        job.every = 10

    def took(self, job: Training) -> bool:
        held = [value for _, value in job.held]
        return len(held) > 5 and held[-1] > 1.2 * min(held) and job.losses[-1] < 0.3 * job.losses[0]
