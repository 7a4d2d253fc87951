"""The outputs are detached before the loss (made new by ``torch.tensor``): no gradient reaches any layer."""

from defib.lab.pathology import Pathology, gradients
from defib.lab.training import Training


class DetachedOutput(Pathology):
    """The loss is computed from detached outputs."""

    slug = "detached-output"
    title = "the loss is computed from detached outputs"
    rule = "zero-gradient"
    causes = ("unreached", "graph-cut")
    also = ("not-observed",)

    def plant(self, job: Training) -> None:
        loss = job.loss
        job.loss = lambda out, y: loss(out.detach().requires_grad_(), y)

    def took(self, job: Training) -> bool:
        return all(not g.any() for g in gradients(job))
