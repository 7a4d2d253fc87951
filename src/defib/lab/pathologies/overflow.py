"""The model ends in an exponential of a large multiple: infinite on the first batch."""

import math

import torch

from defib.lab.nets import Lambda
from defib.lab.pathology import DENSE, Pathology, insert
from defib.lab.training import Training


class Overflow(Pathology):
    """An exponential inside the model overflows."""

    slug = "overflow"
    title = "an exponential inside the model overflows"
    rule = "non-finite"
    causes = ("non-finite-forward",)
    kinds = DENSE

    def plant(self, job: Training) -> None:
        insert(job, -1, Lambda(lambda h: torch.exp(200 * h.abs().amax(1, keepdim=True)) + h))

    def took(self, job: Training) -> bool:
        return not math.isfinite(job.losses[0])
