"""Targets have lost their last axis: (N, 1) against (N,) is stretched to (N, N)."""

from defib.lab.draws import Kind
from defib.lab.pathology import Pathology
from defib.lab.training import Training


class Broadcast(Pathology):
    """Predictions (N, 1) are compared with targets (N,)."""

    slug = "broadcast"
    title = "predictions (N, 1) are compared with targets (N,)"
    rule = "label-or-data"
    causes = ("shapes-broadcast",)
    kinds = (Kind.REGRESSION,)

    def plant(self, job: Training) -> None:
        job.y = job.y.squeeze(1)

    def took(self, job: Training) -> bool:
        return job.y.dim() == 1
