"""Inputs and labels were shuffled apart: nothing in the one tells the other."""

import torch

from defib.lab.pathology import Pathology
from defib.lab.training import Training


class ShuffledLabels(Pathology):
    """Labels are shuffled against their inputs."""

    slug = "shuffled-labels"
    title = "labels are shuffled against their inputs"
    rule = "constant-predictor"
    causes = ("no-relation", "learned-by-heart")
    also = ("by-heart",)

    def plant(self, job: Training) -> None:
        job.y = job.y[torch.randperm(len(job.y), generator=job.chance)]

    def took(self, job: Training) -> bool:
        return float((job.y != job.truth).float().mean()) > 0.3
