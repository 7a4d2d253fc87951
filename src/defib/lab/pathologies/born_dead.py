"""Biases far below zero: every unit of one hidden ReLU layer is off for all data, from the start."""

import torch
from torch import nn

from defib.lab.draws import Draw
from defib.lab.pathology import Pathology, entering, plain, some_layer
from defib.lab.training import Training


class BornDead(Pathology):
    """A hidden layer's biases are far below zero."""

    slug = "born-dead"
    title = "a hidden layer's biases are far below zero"
    rule = "dead-unit"
    causes = ("born-dead",)

    def fit(self, of: Draw) -> Draw:
        return plain(of, "relu")

    def plant(self, job: Training) -> None:
        with torch.no_grad():
            some_layer(job).bias.sub_(60.0)  # type: ignore[union-attr]  # plain draws have biases

    def took(self, job: Training) -> bool:
        return any(bool((z <= 0).all()) for z in entering(job, nn.ReLU))
