"""One sample in fifty has a missing value that was read as NaN."""

from defib.lab.pathology import Pathology
from defib.lab.training import Training


class MissingValues(Pathology):
    """Some samples hold NaN."""

    slug = "missing-values"
    title = "some samples hold NaN"
    rule = "non-finite"
    causes = ("non-finite-data",)

    def plant(self, job: Training) -> None:
        job.x = job.x.clone()
        job.x.flatten(1)[::50, 0] = float("nan")

    def took(self, job: Training) -> bool:
        return bool(job.x.isnan().any())
