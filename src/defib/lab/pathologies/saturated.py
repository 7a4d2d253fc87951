"""Biases of +-15 in front of a bounded activation: its units sit where the derivative is next to nothing."""

import torch
from torch import nn

from defib.lab.draws import Draw
from defib.lab.pathology import Pathology, leaving, plain, some_layer
from defib.lab.training import Training


class Saturated(Pathology):
    """A bounded layer's units begin far out on their flat ends."""

    slug = "saturated"
    title = "a bounded layer's units begin far out on their flat ends"
    rule = "saturated-unit"
    causes = ("large-preactivation",)

    def fit(self, of: Draw) -> Draw:
        return plain(of, "tanh")

    def plant(self, job: Training) -> None:
        layer = some_layer(job)
        signs = torch.randint(0, 2, layer.bias.shape, generator=job.chance) * 2 - 1  # type: ignore[union-attr]
        with torch.no_grad():
            layer.bias.copy_(15.0 * signs)  # type: ignore[union-attr]

    def took(self, job: Training) -> bool:
        slopes = [1 - h.square() for h in leaving(job, nn.Tanh)]
        return any(float((slope < 0.01).float().mean()) > 0.9 for slope in slopes)
