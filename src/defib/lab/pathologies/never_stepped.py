"""``optimizer.step()`` is missing: the loss is computed, and no weight ever changes."""

import torch
from torch import Tensor

from defib.lab.draws import Draw
from defib.lab.pathology import Pathology, moved, plain
from defib.lab.training import Training


class NeverStepped(Pathology):
    """The optimiser's step is never called."""

    slug = "never-stepped"
    title = "the optimiser's step is never called"
    rule = "not-observed"
    causes = ("no-step",)

    def fit(self, of: Draw) -> Draw:
        return plain(of)

    def plant(self, job: Training) -> None:
        job.step = _step

    def took(self, job: Training) -> bool:
        return moved(job) == 0.0


def _step(job: Training, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    optimiser.zero_grad()
    loss = job.loss(job.net(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss
