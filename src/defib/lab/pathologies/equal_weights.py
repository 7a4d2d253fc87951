"""Every weight begins with the same number: all units of a layer compute the same for ever."""

from torch import nn

from defib.lab.draws import Draw
from defib.lab.pathology import Pathology, hidden, layers, plain
from defib.lab.training import Training


class EqualWeights(Pathology):
    """Every weight begins with the same number."""

    slug = "equal-weights"
    title = "every weight begins with the same number"
    rule = "initialisation"
    causes = ("cloned-units",)

    def fit(self, of: Draw) -> Draw:
        return plain(of)

    def plant(self, job: Training) -> None:
        for layer in layers(job):
            nn.init.constant_(layer.weight, 1.0 / layer.weight[0].numel())
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def took(self, job: Training) -> bool:
        rows = hidden(job)[-1].weight.detach().flatten(1)
        return float((rows - rows[0]).abs().max()) < 1e-4 * float(rows.abs().max())
