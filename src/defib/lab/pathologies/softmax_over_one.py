"""A softmax over a single output: its result is 1 whatever enters it."""

from torch import nn
from torch.nn import functional

from defib.lab.draws import Kind
from defib.lab.pathology import Pathology
from defib.lab.training import Training


class SoftmaxOverOne(Pathology):
    """A softmax over a single output."""

    slug = "softmax-over-one"
    title = "a softmax over a single output"
    rule = "output-activation"
    causes = ("softmax-over-one",)
    kinds = (Kind.BINARY,)

    def plant(self, job: Training) -> None:
        job.net.append(nn.Softmax(1))  # type: ignore[operator]
        job.loss = functional.binary_cross_entropy

    def took(self, job: Training) -> bool:
        return bool((job.answers() == 1).all())
