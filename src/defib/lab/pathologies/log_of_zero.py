"""Probabilities made by a ReLU and a division: their logarithm is infinite where a score is below zero."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from defib.lab.pathology import CLASSES, Pathology
from defib.lab.training import Training


class LogOfZero(Pathology):
    """The loss takes the logarithm of what is exactly zero."""

    slug = "log-of-zero"
    title = "the loss takes the logarithm of what is exactly zero"
    rule = "non-finite"
    causes = ("non-finite-loss",)
    also = ("output-activation",)
    kinds = CLASSES

    def plant(self, job: Training) -> None:
        job.loss = _likelihood

    def took(self, job: Training) -> bool:
        return job.loss is _likelihood and not all(map(math.isfinite, job.losses))


def _likelihood(out: Tensor, y: Tensor) -> Tensor:
    shares = functional.relu(out) / (functional.relu(out).sum(1, keepdim=True) + 1e-9)
    return -torch.log(shares[torch.arange(len(y)), y]).mean()
