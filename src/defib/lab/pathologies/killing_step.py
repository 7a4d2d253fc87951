"""One step at 150 (SGD) or 1,000 (Adam) times the rate puts units where they never fire."""

import torch
from torch import nn

from defib.lab.draws import Draw
from defib.lab.pathology import Pathology, entering, per_unit, plain
from defib.lab.training import Training


class KillingStep(Pathology):
    """The rate is hundreds of times too large for one step."""

    slug = "killing-step"
    title = "the rate is 150 to 1,000 times too large for one step"
    rule = "dead-unit"
    causes = ("died-at-step",)
    also = ("lr-too-high",)

    def fit(self, of: Draw) -> Draw:
        return plain(of, "relu")

    def plant(self, job: Training) -> None:
        factor = 150 if job.draw.optimiser in {"sgd", "momentum"} else 1000
        when = int(torch.randint(30, 90, (1,), generator=job.chance))

        def rate(optimiser: torch.optim.Optimizer, number: int) -> None:
            for group in optimiser.param_groups:
                group["lr"] = job.draw.rate * (factor if number == when else 1)

        job.rate = rate

    def took(self, job: Training) -> bool:
        return any(float((per_unit(z) <= 0).all(1).float().mean()) >= 0.9 for z in entering(job, nn.ReLU))
