"""``optimizer.zero_grad()`` is missing: gradients of all steps add up."""

import torch
from torch import Tensor

from defib.lab.pathology import Pathology
from defib.lab.training import Training


class GradientsKept(Pathology):
    """Gradients are never set to zero."""

    slug = "gradients-kept"
    title = "gradients are never set to zero"
    rule = "gradients-kept"
    causes = ("gradients-kept",)

    def plant(self, job: Training) -> None:
        job.step = _step

    def took(self, job: Training) -> bool:
        return job.step is _step


def _step(job: Training, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    loss = job.loss(job.net(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return loss
