"""Adam in pure float16: its eps of 1e-8 rounds to zero there, and 0 / 0 follows."""

import math

from defib.lab.draws import Draw
from defib.lab.pathology import DENSE, Pathology, plain
from defib.lab.training import Training


class LostEpsilon(Pathology):
    """Adam in float16 with its default eps."""

    slug = "lost-epsilon"
    title = "Adam in float16 with its default eps"
    rule = "update-lost"
    causes = ("epsilon-lost",)
    kinds = DENSE

    def fit(self, of: Draw) -> Draw:
        return plain(of, optimiser="adam", rate=2e-3)

    def plant(self, job: Training) -> None:
        job.net.half()
        job.x, job.x_test = job.x.half(), job.x_test.half()
        loss = job.loss
        job.loss = lambda out, y: loss(out.float(), y)

    def took(self, job: Training) -> bool:
        return math.isfinite(job.losses[0]) and not math.isfinite(job.losses[-1])
