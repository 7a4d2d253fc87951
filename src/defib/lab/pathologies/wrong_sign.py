"""A log-likelihood is minimised: the sign is missing, and the loss falls for ever."""

from defib.lab.pathology import Pathology
from defib.lab.training import Training


class WrongSign(Pathology):
    """The sign of the loss is wrong."""

    slug = "wrong-sign"
    title = "the sign of the loss is wrong"
    rule = "unbounded-loss"
    causes = ("loss-unbounded",)

    def plant(self, job: Training) -> None:
        loss = job.loss
        job.loss = lambda out, y: -loss(out, y)

    def took(self, job: Training) -> bool:
        return job.losses[0] < 0 and not job.losses[-1] > 10 * job.losses[0]
