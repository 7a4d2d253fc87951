"""Targets of a regression ten thousand times below unit scale: the answers' own noise is larger."""

from defib.lab.draws import Kind
from defib.lab.pathology import Pathology
from defib.lab.training import Training


class TinyTargets(Pathology):
    """Targets of a regression are tiny."""

    slug = "tiny-targets"
    title = "targets of a regression are tiny"
    rule = "unscaled-data"
    causes = ("small-targets",)
    kinds = (Kind.REGRESSION,)

    def plant(self, job: Training) -> None:
        job.y, job.y_test = job.y * 1e-4, job.y_test * 1e-4

    def took(self, job: Training) -> bool:
        return float(job.y.square().mean().sqrt()) < 1e-2
