"""Layers in front of a batch normalisation have a bias, which it takes away again."""

from dataclasses import replace

import torch
from torch import nn

from defib.lab.draws import Draw
from defib.lab.pathology import Pathology, hidden
from defib.lab.training import Training


class IdleBias(Pathology):
    """Layers in front of a batch normalisation have a bias."""

    slug = "idle-bias"
    title = "layers in front of a batch normalisation have a bias"
    rule = "null-parameter"
    causes = ("null-before-norm",)
    harmful = False

    def fit(self, of: Draw) -> Draw:
        return replace(of, norm="batch")

    def plant(self, job: Training) -> None:
        for layer in hidden(job):
            layer.bias = nn.Parameter(torch.zeros(len(layer.weight)))

    def took(self, job: Training) -> bool:
        return all(layer.bias is not None for layer in hidden(job))
