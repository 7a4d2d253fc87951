"""A schedule that is at its end before training begins: the learning rate is zero from the third step on."""

import torch

from defib.lab.pathology import Pathology
from defib.lab.training import Training


class RateZero(Pathology):
    """A schedule has brought the learning rate to zero."""

    slug = "rate-zero"
    title = "a schedule has brought the learning rate to zero"
    rule = "lr-too-low"
    causes = ("lr-zero",)

    def plant(self, job: Training) -> None:
        job.rate = _ended

    def took(self, job: Training) -> bool:
        return job.stepped is not None and all(group["lr"] == 0 for group in job.stepped.param_groups)


def _ended(optimiser: torch.optim.Optimizer, number: int) -> None:
    for group in optimiser.param_groups:
        group["lr"] = group["lr"] if number < 2 else 0.0
