"""Eight columns of the data never change: a step of the pipeline has lost them."""

import torch
from torch import nn
from torch.nn import functional

from defib.lab.draws import Kind
from defib.lab.pathology import Pathology
from defib.lab.training import Training


class BlankColumns(Pathology):
    """Eight columns of the data never change."""

    slug = "blank-columns"
    title = "eight columns of the data never change"
    rule = "dead-features"
    causes = ("dead-features",)
    kinds = (Kind.BINARY, Kind.REGRESSION)
    harmful = False

    def plant(self, job: Training) -> None:
        job.x, job.x_test = (functional.pad(x, (0, 8), value=0.5) for x in (job.x, job.x_test))
        with torch.random.fork_rng():
            torch.manual_seed(job.draw.seed)
            first = nn.Linear(job.x.shape[1], job.draw.width)
        job.net = nn.Sequential(first, *list(job.net.children())[1:])

    def took(self, job: Training) -> bool:
        return int((job.x.amax(0) == job.x.amin(0)).sum()) >= 8
