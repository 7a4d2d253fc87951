"""A bug in the data set gives every sample the same label."""

from defib.lab.draws import Kind
from defib.lab.pathology import Pathology
from defib.lab.training import Training


class ConstantLabels(Pathology):
    """Every label is the same."""

    slug = "constant-labels"
    title = "every label is the same"
    rule = "label-or-data"
    causes = ("constant-labels",)
    kinds = (Kind.DIGITS, Kind.IMAGES, Kind.BINARY)

    def plant(self, job: Training) -> None:
        job.y = job.y[:1].expand(job.y.shape).clone()

    def took(self, job: Training) -> bool:
        return bool(job.y.amin() == job.y.amax())
