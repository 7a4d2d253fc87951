"""``nll_loss`` is given probabilities and not their logarithms."""

from torch import nn
from torch.nn import functional

from defib.lab.pathology import CLASSES, Pathology
from defib.lab.training import Training


class NotLog(Pathology):
    """A negative log-likelihood is given probabilities."""

    slug = "not-log"
    title = "a negative log-likelihood is given probabilities"
    rule = "output-activation"
    causes = ("not-log-probabilities",)
    kinds = CLASSES
    harmful = False

    def plant(self, job: Training) -> None:
        job.net.append(nn.Softmax(1))  # type: ignore[operator]
        job.loss = functional.nll_loss

    def took(self, job: Training) -> bool:
        return job.loss is functional.nll_loss and bool((job.answers() >= 0).all())
