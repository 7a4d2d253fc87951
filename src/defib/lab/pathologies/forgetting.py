"""A decoupled weight decay so large that a weight loses a twentieth to a third of itself on every step."""

import torch

from defib.lab.draws import Draw
from defib.lab.pathology import Pathology, plain
from defib.lab.training import Training


class Forgetting(Pathology):
    """Weight decay shrinks the weights by a twentieth to a third on every step."""

    slug = "forgetting"
    title = "weight decay shrinks the weights by a twentieth to a third on every step"
    rule = "weight-decay"
    causes = ("weights-forgotten",)

    def fit(self, of: Draw) -> Draw:
        return plain(of, optimiser="adamw")

    def plant(self, job: Training) -> None:
        rate = job.draw.rate
        share = 0.05 * 6 ** float(torch.rand((), generator=job.chance))
        job.optimiser = lambda parameters: torch.optim.AdamW(parameters, lr=rate, weight_decay=share / rate)

    def took(self, job: Training) -> bool:
        groups = job.stepped.param_groups if job.stepped is not None else []
        return any(group["lr"] * group.get("weight_decay", 0) >= 0.03 for group in groups)
