"""A sigmoid at the output of a regression whose targets lie around ten."""

from torch import nn

from defib.lab.draws import Kind
from defib.lab.pathology import Pathology
from defib.lab.training import Training


class BoundedOutput(Pathology):
    """A sigmoid stands in front of targets beyond 1."""

    slug = "bounded-output"
    title = "a sigmoid stands in front of targets beyond 1"
    rule = "output-activation"
    causes = ("targets-out-of-range",)
    kinds = (Kind.REGRESSION,)

    def plant(self, job: Training) -> None:
        job.net.append(nn.Sigmoid())  # type: ignore[operator]
        job.y, job.y_test = 3 * job.y + 10, 3 * job.y_test + 10

    def took(self, job: Training) -> bool:
        return float(job.answers().max()) <= 1 < float(job.y.median())
