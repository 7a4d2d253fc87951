"""The last layer of a classifier has a ReLU too: a class whose score is off gets no gradient."""

from torch import nn

from defib.lab.pathology import CLASSES, Pathology
from defib.lab.training import Training


class ReluScores(Pathology):
    """A ReLU makes the scores of a classifier."""

    slug = "relu-scores"
    title = "a ReLU makes the scores of a classifier"
    rule = "output-activation"
    causes = ("one-sided-output",)
    kinds = CLASSES
    harmful = False

    def plant(self, job: Training) -> None:
        job.net.append(nn.ReLU())  # type: ignore[operator]

    def took(self, job: Training) -> bool:
        answers = job.answers()
        return bool((answers >= 0).all()) and float((answers == 0).float().mean()) > 0.1
