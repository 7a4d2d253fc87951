"""Hidden weights a twentieth of the right size: the signal is lost along the depth."""

import torch

from defib.lab.draws import Draw
from defib.lab.pathology import DENSE, Pathology, hidden, plain
from defib.lab.training import Training


class WeightsTooSmall(Pathology):
    """Hidden weights are drawn a twentieth of the right size."""

    slug = "weights-too-small"
    title = "hidden weights are drawn a twentieth of the right size"
    rule = "initialisation"
    causes = ("weights-too-small",)
    also = ("vanishing-gradient",)
    kinds = DENSE

    def fit(self, of: Draw) -> Draw:
        return plain(of, depth=5, init="matched", optimiser="momentum", rate=0.02)

    def plant(self, job: Training) -> None:
        with torch.no_grad():
            for layer in hidden(job):
                layer.weight.mul_(0.05)

    def took(self, job: Training) -> bool:
        job.net.load_state_dict(job.start)
        sizes = [float(w.std()) * w[0].numel() ** 0.5 for w in (layer.weight for layer in hidden(job))]
        return all(size < 0.25 for size in sizes)
