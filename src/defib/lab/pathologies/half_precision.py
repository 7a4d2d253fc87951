"""Deep sigmoids in float16 without a loss scale: gradients fall below its smallest number."""

import torch
from torch import nn

from defib.lab.draws import Draw
from defib.lab.pathology import DENSE, Pathology, gradients, plain
from defib.lab.training import Training


class HalfPrecision(Pathology):
    """Float16 weights and activations without a loss scale."""

    slug = "half-precision"
    title = "float16 weights and activations without a loss scale"
    rule = "gradient-underflow"
    causes = ("below-precision",)
    also = ("vanishing-gradient",)
    kinds = DENSE

    def fit(self, of: Draw) -> Draw:
        return plain(of, "relu", depth=10, init="matched", optimiser="momentum", rate=0.02)

    def plant(self, job: Training) -> None:
        made = [nn.Sigmoid() if isinstance(m, nn.ReLU) else m for m in job.net.children()]
        job.net = nn.Sequential(*made).half()
        job.x, job.x_test = job.x.half(), job.x_test.half()
        loss = job.loss
        job.loss = lambda out, y: loss(out.float(), y)

    def took(self, job: Training) -> bool:
        if job.x.dtype is not torch.float16:
            return False
        first = gradients(job)[0]
        job.net.double()
        job.x = job.x.double()
        return float(((first == 0) & (gradients(job)[0] != 0)).float().mean()) > 0.3
