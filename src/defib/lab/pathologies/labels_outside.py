"""Binary labels are 1 and 2, not 0 and 1: binary cross-entropy has no minimum then."""

from defib.lab.draws import Kind
from defib.lab.pathology import Pathology
from defib.lab.training import Training


class LabelsOutside(Pathology):
    """Binary labels are 1 and 2."""

    slug = "labels-outside"
    title = "binary labels are 1 and 2"
    rule = "label-or-data"
    causes = ("labels-outside",)
    also = ("unbounded-loss",)
    kinds = (Kind.BINARY,)

    def plant(self, job: Training) -> None:
        job.y = job.y + 1

    def took(self, job: Training) -> bool:
        return float(job.y.max()) > 1 and job.draw.kind is Kind.BINARY
