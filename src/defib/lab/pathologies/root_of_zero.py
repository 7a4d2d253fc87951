"""A penalty, the root of the summed squares of biases that begin at zero: infinite derivative."""

import math

from torch import nn

from defib.lab.pathology import Pathology, layers
from defib.lab.training import Training


class RootOfZero(Pathology):
    """A penalty takes the root of what is exactly zero."""

    slug = "root-of-zero"
    title = "a penalty takes the root of what is exactly zero"
    rule = "non-finite"
    causes = ("non-finite-backward",)

    def plant(self, job: Training) -> None:
        last = layers(job)[-1]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]  # the last layer has one
        loss = job.loss
        job.loss = lambda out, y: loss(out, y) + 1e-3 * last.bias.square().sum().sqrt()  # type: ignore[union-attr]

    def took(self, job: Training) -> bool:
        return math.isfinite(job.losses[0]) and not math.isfinite(job.losses[-1])
