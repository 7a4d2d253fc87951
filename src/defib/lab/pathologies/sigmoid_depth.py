"""Eight sigmoid layers with default weights: each derivative is at most 1/4, and little reaches the first."""

import torch
from torch import nn

from defib.lab.draws import Draw
from defib.lab.pathology import DENSE, Pathology, gradients, layers, plain
from defib.lab.training import Training


class SigmoidDepth(Pathology):
    """Eight sigmoid layers with torch's default weights."""

    slug = "sigmoid-depth"
    title = "eight sigmoid layers with torch's default weights"
    rule = "vanishing-gradient"
    causes = ("activation-derivative", "derivative-and-weights", "weights")
    kinds = DENSE

    def fit(self, of: Draw) -> Draw:
        return plain(of, "relu", depth=8, init="matched", optimiser="adam", rate=1e-3)

    def plant(self, job: Training) -> None:
        made = [nn.Sigmoid() if isinstance(m, nn.ReLU) else m for m in job.net.children()]
        job.net = nn.Sequential(*made)
        with torch.random.fork_rng():
            torch.manual_seed(job.draw.seed)
            for layer in layers(job):
                layer.reset_parameters()

    def took(self, job: Training) -> bool:
        job.net.load_state_dict(job.start)
        sizes = [float(g.norm()) for g in gradients(job)]
        return sizes[0] < 1e-3 * sizes[-1]
