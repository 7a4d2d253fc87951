"""A detach in front of the last layer: the layers before it keep their first weights, the last one learns."""

import torch

from defib.lab.nets import Lambda
from defib.lab.pathology import Pathology, gradients, insert
from defib.lab.training import Training


class DetachedMiddle(Pathology):
    """Half of the network stands behind a detach."""

    slug = "detached-middle"
    title = "half of the network stands behind a detach"
    rule = "zero-gradient"
    causes = ("unreached", "graph-cut")
    harmful = False

    def plant(self, job: Training) -> None:
        insert(job, -1, Lambda(torch.Tensor.detach))

    def took(self, job: Training) -> bool:
        found = gradients(job)
        return all(not g.any() for g in found[:-1]) and bool(found[-1].any())
