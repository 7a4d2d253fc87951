"""Every batch is one sample again and again (a view that was expanded): no answer can differ."""

import torch
from torch import Tensor

from defib.lab.draws import Draw
from defib.lab.pathology import Pathology, plain
from defib.lab.training import Training, ordinary_step


class SameSample(Pathology):
    """Every batch repeats one sample."""

    slug = "same-sample"
    title = "every batch repeats one sample"
    rule = "label-or-data"
    causes = ("constant-inputs",)

    def fit(self, of: Draw) -> Draw:
        return plain(of)

    def plant(self, job: Training) -> None:
        def step(job: Training, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
            return ordinary_step(job, optimiser, x[:1].expand_as(x), y)

        job.step = step

    def took(self, job: Training) -> bool:
        return job.step is not ordinary_step
