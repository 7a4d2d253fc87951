"""A layer was widened by copying its units, with their weights behind them, and no noise."""

import torch
from torch import Tensor

from defib.lab.draws import Draw
from defib.lab.pathology import DENSE, Pathology, hidden, layers, plain
from defib.lab.training import Training


class CopiedUnits(Pathology):
    """Half of a layer's units are copies of the other half."""

    slug = "copied-units"
    title = "half of a layer's units are copies of the other half"
    rule = "cloned-unit"
    causes = ("duplicate-units",)
    kinds = DENSE
    harmful = False

    def fit(self, of: Draw) -> Draw:
        return plain(of)

    def plant(self, job: Training) -> None:
        number = int(torch.randint(len(hidden(job)), (1,), generator=job.chance))
        layer, behind = layers(job)[number : number + 2]
        half = len(layer.weight) // 2
        with torch.no_grad():
            layer.weight[half : 2 * half] = layer.weight[:half]
            layer.bias[half : 2 * half] = layer.bias[:half]  # type: ignore[index]
            behind.weight[:, half : 2 * half] = behind.weight[:, :half]

    def took(self, job: Training) -> bool:
        def copied(weight: Tensor) -> bool:
            half = len(weight) // 2
            return bool((weight[half : 2 * half] - weight[:half]).abs().max() < 1e-4 * weight.abs().max())

        return any(copied(layer.weight) for layer in hidden(job))
