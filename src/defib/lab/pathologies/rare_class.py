"""One class has three or four samples, the others a hundred and forty each."""

from dataclasses import replace

import torch

from defib.lab.draws import Draw
from defib.lab.pathology import CLASSES, LONG, Pathology
from defib.lab.training import Training


class RareClass(Pathology):
    """One class has a fortieth of the others' samples."""

    slug = "rare-class"
    title = "one class has a fortieth of the others' samples"
    rule = "class-imbalance"
    causes = ("class-imbalance",)
    kinds = CLASSES
    harmful = False

    def fit(self, of: Draw) -> Draw:
        return replace(of, steps=LONG)

    def plant(self, job: Training) -> None:
        rare = int(torch.randint(10, (1,), generator=job.chance))
        keep = (job.y != rare).nonzero().flatten()
        few = (job.y == rare).nonzero().flatten()[:4]
        chosen = torch.cat([keep, few])
        job.order = [chosen[order % len(chosen)] for order in job.order]

    def took(self, job: Training) -> bool:
        counts = torch.bincount(job.y[torch.cat(job.order)])
        return int(counts.max()) >= 20 * int(counts.min()) > 0
