"""All hidden weights begin at zero: no unit differs from another, and no signal passes."""

from torch import nn

from defib.lab.draws import Draw
from defib.lab.pathology import Pathology, hidden, layers, plain
from defib.lab.training import Training


class ZeroWeights(Pathology):
    """All hidden weights begin at zero."""

    slug = "zero-weights"
    title = "all hidden weights begin at zero"
    rule = "initialisation"
    causes = ("zero-weights", "cloned-units")

    def fit(self, of: Draw) -> Draw:
        return plain(of)

    def plant(self, job: Training) -> None:
        for layer in layers(job):
            nn.init.zeros_(layer.weight)

    def took(self, job: Training) -> bool:
        job.net.load_state_dict(job.start)
        return all(not layer.weight.any() for layer in hidden(job))
