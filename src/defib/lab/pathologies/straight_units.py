"""Large biases: half of a ReLU layer's units are on for all data, and so are linear."""

import torch
from torch import nn

from defib.lab.draws import Draw
from defib.lab.pathology import DENSE, LONG, Pathology, entering, per_unit, plain, some_layer
from defib.lab.training import Training


class StraightUnits(Pathology):
    """Half of a ReLU layer's units are always on."""

    slug = "straight-units"
    title = "half of a ReLU layer's units are always on"
    rule = "linear-unit"
    causes = ("always-on",)
    kinds = DENSE
    harmful = False

    def fit(self, of: Draw) -> Draw:
        return plain(of, "relu", steps=LONG)

    def plant(self, job: Training) -> None:
        layer = some_layer(job)
        with torch.no_grad():
            layer.bias[::2] += 30.0  # type: ignore[index]

    def took(self, job: Training) -> bool:
        shares = [float((per_unit(z) > 0).all(1).float().mean()) for z in entering(job, nn.ReLU)]
        return max(shares, default=0.0) >= 0.4
