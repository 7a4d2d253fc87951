"""A learning rate 100 to 1,000 times above a usual one, on every step."""

import torch

from defib.lab.pathology import Pathology, moved
from defib.lab.training import Training


class RateTooHigh(Pathology):
    """The learning rate is hundreds of times too large."""

    slug = "rate-too-high"
    title = "the learning rate is hundreds of times too large"
    rule = "lr-too-high"
    causes = ("step-larger-than-weights", "loss-runs-away", "steps-overshoot")

    def plant(self, job: Training) -> None:
        factor = 100 * 10 ** float(torch.rand((), generator=job.chance))

        def rate(optimiser: torch.optim.Optimizer, number: int) -> None:
            del number
            for group in optimiser.param_groups:
                group["lr"] = job.draw.rate * factor

        job.rate = rate

    def took(self, job: Training) -> bool:
        return not moved(job) < 3.0
