"""Hidden weights drawn from N(0, 4), whatever the number of inputs: every layer multiplies the signal."""

import torch

from defib.lab.draws import Draw
from defib.lab.pathology import DENSE, Pathology, hidden, plain
from defib.lab.training import Training


class WeightsTooLarge(Pathology):
    """Hidden weights are drawn from N(0, 4)."""

    slug = "weights-too-large"
    title = "hidden weights are drawn from N(0, 4)"
    rule = "initialisation"
    causes = ("weights-too-large",)
    also = ("exploding-gradient", "saturated-unit")
    kinds = DENSE

    def fit(self, of: Draw) -> Draw:
        return plain(of, depth=4)

    def plant(self, job: Training) -> None:
        with torch.no_grad():
            for layer in hidden(job):
                layer.weight.normal_(0, 2, generator=job.chance)

    def took(self, job: Training) -> bool:
        job.net.load_state_dict(job.start)
        return all(float(layer.weight.std()) > 1.5 for layer in hidden(job))
