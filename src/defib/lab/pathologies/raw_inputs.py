"""Inputs as they come: a hundred to a thousand times unit scale, with an offset."""

import torch

from defib.lab.draws import Draw
from defib.lab.pathology import DENSE, Pathology, plain
from defib.lab.training import Training


class RawInputs(Pathology):
    """Inputs are not scaled."""

    slug = "raw-inputs"
    title = "inputs are not scaled"
    rule = "unscaled-data"
    causes = ("large-inputs",)
    kinds = DENSE

    def fit(self, of: Draw) -> Draw:
        return plain(of, optimiser="momentum", rate=0.02)

    def plant(self, job: Training) -> None:
        scale = 100 * 10 ** float(torch.rand((), generator=job.chance))
        job.x, job.x_test = ((x + 1) * scale for x in (job.x, job.x_test))

    def took(self, job: Training) -> bool:
        return float(job.x.square().mean().sqrt()) > 50
