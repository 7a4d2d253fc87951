"""The model ends in a softmax, and the cross-entropy applies its own to it."""

from torch import nn

from defib.lab.pathology import CLASSES, Pathology
from defib.lab.training import Training


class SoftmaxTwice(Pathology):
    """Outputs go through a softmax or sigmoid that the loss applies again."""

    slug = "softmax-twice"
    title = "outputs go through a softmax or sigmoid that the loss applies again"
    rule = "output-activation"
    causes = ("double-activation",)
    kinds = CLASSES
    harmful = False

    def plant(self, job: Training) -> None:
        job.net.append(nn.Softmax(1))  # type: ignore[operator]

    def took(self, job: Training) -> bool:
        return bool(((job.answers().sum(1) - 1).abs() < 1e-3).all())
