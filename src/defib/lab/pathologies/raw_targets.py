"""Targets of a regression in the thousands (prices): far above what a network gives at its start."""

from dataclasses import replace

import torch

from defib.lab.draws import Draw, Kind
from defib.lab.pathology import Pathology
from defib.lab.training import Training


class RawTargets(Pathology):
    """Targets of a regression are not scaled."""

    slug = "raw-targets"
    title = "targets of a regression are not scaled"
    rule = "unscaled-data"
    causes = ("large-targets",)
    kinds = (Kind.REGRESSION,)

    def fit(self, of: Draw) -> Draw:
        return replace(of, optimiser="sgd", rate=0.1)

    def plant(self, job: Training) -> None:
        scale = 1000 * 30 ** float(torch.rand((), generator=job.chance))
        job.y, job.y_test = ((y + 2) * scale for y in (job.y, job.y_test))

    def took(self, job: Training) -> bool:
        return float(job.y.square().mean().sqrt()) > 500
