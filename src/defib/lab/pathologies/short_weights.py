"""Weights in bfloat16, small steps of Adam: most are below the spacing of its numbers."""

import torch

from defib.lab.draws import Draw
from defib.lab.pathology import DENSE, Pathology, layers, plain
from defib.lab.training import Training


class ShortWeights(Pathology):
    """Bfloat16 weights under small steps."""

    slug = "short-weights"
    title = "bfloat16 weights under small steps"
    rule = "update-lost"
    causes = ("rounded-away",)
    also = ("lr-too-low",)
    kinds = DENSE

    def fit(self, of: Draw) -> Draw:
        return plain(of, init="matched", optimiser="adam", rate=2e-4, steps=600)

    def plant(self, job: Training) -> None:
        job.net.bfloat16()
        job.x, job.x_test = job.x.bfloat16(), job.x_test.bfloat16()
        loss = job.loss
        job.loss = lambda out, y: loss(out.float(), y)

    def took(self, job: Training) -> bool:
        if job.x.dtype is not torch.bfloat16:
            return False
        weights = torch.cat([layer.weight.flatten() for layer in layers(job)])
        rate = job.draw.rate  # the usual size of a step of Adam's
        return float((weights + rate == weights).float().mean()) > 0.5
