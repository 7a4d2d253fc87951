"""Inputs ten thousand times below unit scale (metres for nanometres)."""

from defib.lab.draws import Draw
from defib.lab.pathology import DENSE, Pathology, plain
from defib.lab.training import Training


class TinyInputs(Pathology):
    """Inputs are tiny."""

    slug = "tiny-inputs"
    title = "inputs are tiny"
    rule = "unscaled-data"
    causes = ("small-inputs",)
    kinds = DENSE

    def fit(self, of: Draw) -> Draw:
        return plain(of)

    def plant(self, job: Training) -> None:
        job.x, job.x_test = job.x * 1e-4, job.x_test * 1e-4

    def took(self, job: Training) -> bool:
        return float(job.x.square().mean().sqrt()) < 1e-2
