"""Rebuild a network of saturating activations with ReLUs and He's weights.

What it does:
    Every hidden activation becomes a ReLU and every weight is drawn from N(0, 2 / fan in): the
    backward signal keeps its size, a factor of 1 / sqrt(2) from the derivative times sqrt(2) from
    the weights.
    Biases become 0 and what the optimiser remembers of all this is taken away.

When it helps:
    Sigmoids or tanhs starve the lower layers, or sit in their flat parts.

When it does not:
    Recurrences; outputs that must be bounded. A network that has already learnt loses what it knew.

Dose:
    ``activations``: paths of the modules to exchange; all hidden ones where none is named.

Safety:
    Everything that was learnt is lost. Activations that are called as functions, tied and
    parametrised weights are refused.

References:
    Glorot, Bordes and Bengio 2011; He et al. 2015 (arXiv 1502.01852).
"""

from typing import ClassVar

import torch
from torch import nn

from defib.nn.initialisers import he_
from defib.therapy.rebuild import Rebuild, cases, steady
from defib.therapy.treatment import Case


class Rectify(Rebuild):
    """Rebuild a network of saturating activations with ReLUs and He's weights."""

    slug = "rectify"
    title = "Rebuild a network of saturating activations with ReLUs and He's weights"
    activation = "relu"
    indications = steady(0.84)
    CASES: ClassVar[tuple[Case, ...]] = cases(nn.ReLU, (2 / 6) ** 0.5)

    def make(self, old: nn.Module) -> nn.Module:
        del old
        return nn.ReLU()

    def draw(self, weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return he_(weight, 2**0.5, generator)
