"""A learning rate two to four thousand times below a usual one."""

import torch

from defib.lab.pathology import Pathology, moved
from defib.lab.training import Training


class RateTooLow(Pathology):
    """The learning rate is thousands of times too small."""

    slug = "rate-too-low"
    title = "the learning rate is thousands of times too small"
    rule = "lr-too-low"
    causes = ("steps-too-small",)

    def plant(self, job: Training) -> None:
        factor = 2000 * 2 ** float(torch.rand((), generator=job.chance))
        job.rate = lambda optimiser, _number: _set(optimiser, job.draw.rate / factor)

    def took(self, job: Training) -> bool:
        return moved(job) < 0.05


def _set(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
