"""The loss is divided by 10^10 (a mean taken twice): gradients are below Adam's eps, and its steps tiny."""

from dataclasses import replace

from defib.lab.draws import Draw
from defib.lab.pathology import Pathology, gradients
from defib.lab.training import Training


class ThrottledAdam(Pathology):
    """The loss is so small that Adam's eps rules."""

    slug = "throttled-adam"
    title = "the loss is so small that Adam's eps rules"
    rule = "update-lost"
    causes = ("epsilon-throttle",)
    also = ("lr-too-low",)

    def fit(self, of: Draw) -> Draw:
        return replace(of, optimiser="adam", rate=2e-3)

    def plant(self, job: Training) -> None:
        loss = job.loss
        job.loss = lambda out, y: loss(out, y) * 1e-10

    def took(self, job: Training) -> bool:
        return max(float(g.norm()) for g in gradients(job)) < 1e-8
