"""The data comes in order of its labels and is never shuffled: every batch holds one label."""

import torch

from defib.lab.pathology import CLASSES, Pathology
from defib.lab.training import Training


class SortedData(Pathology):
    """The data comes sorted by label."""

    slug = "sorted-data"
    title = "the data comes sorted by label"
    rule = "label-or-data"
    causes = ("sorted-data",)
    kinds = CLASSES

    def plant(self, job: Training) -> None:
        order = job.y.argsort(stable=True)
        size = job.draw.batch
        job.x, job.y = job.x[order], job.y[order]
        job.order = [(torch.arange(size) + number * size) % len(job.x) for number in range(len(job.order))]

    def took(self, job: Training) -> bool:
        return sum(
            int(job.y[chosen].amin()) == int(job.y[chosen].amax()) for chosen in job.order
        ) > 0.5 * len(job.order)
