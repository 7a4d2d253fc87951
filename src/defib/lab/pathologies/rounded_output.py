"""``torch.round`` at the end of the model: its derivative is zero everywhere."""

import torch

from defib.lab.nets import Lambda
from defib.lab.pathology import Pathology, gradients
from defib.lab.training import Training


class RoundedOutput(Pathology):
    """The outputs are rounded inside the model."""

    slug = "rounded-output"
    title = "the outputs are rounded inside the model"
    rule = "zero-gradient"
    causes = ("cut", "zero-derivative")

    def plant(self, job: Training) -> None:
        job.net.append(Lambda(torch.round))  # type: ignore[operator]

    def took(self, job: Training) -> bool:
        return all(not g.any() for g in gradients(job))
