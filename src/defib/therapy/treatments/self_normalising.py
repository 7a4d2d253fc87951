"""Rebuild a plain network as a self-normalising one: SELU with LeCun's weights.

What it does:
    Every hidden activation becomes a SELU and every weight is drawn from N(0, 1 / fan in), for
    which the outputs of each layer keep mean 0 and variance 1.
    Biases become 0 and what the optimiser remembers of all this is taken away.

When it helps:
    A deep plain network whose gradient vanishes or explodes from layer to layer, whatever takes it:
    derivative, weights or both.

When it does not:
    Skip connections, recurrences, ordinary dropout. A network that has already learnt loses what it
    knew.

Dose:
    ``activations``: paths of the modules to exchange; all hidden ones where none is named.

Safety:
    Everything that was learnt is lost. Activations that are called as functions, tied and
    parametrised weights are refused.

References:
    Klambauer et al. 2017 (arXiv 1706.02515).
"""

from typing import ClassVar

import torch
from torch import nn

from defib.core.cause import Cause
from defib.nn.initialisers import lecun_
from defib.therapy.rebuild import Rebuild, cases, steady
from defib.therapy.treatment import Case, Indication


class SelfNormalising(Rebuild):
    """Rebuild a plain network as a self-normalising one: SELU with LeCun's weights."""

    slug = "self-normalising"
    title = "Rebuild a plain network as a self-normalising one: SELU with LeCun's weights"
    activation = "selu"
    indications = (
        *steady(0.87),
        Indication(
            rule="non-finite",
            causes=(Cause.NON_FINITE_FORWARD, Cause.NON_FINITE_LOSS),
            strength=0.82,
            why="no exponential is left on the side where it overflows, and the signal keeps its size",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = cases(nn.SELU, (1 / 6) ** 0.5)

    def make(self, old: nn.Module) -> nn.Module:
        del old
        return nn.SELU()

    def draw(self, weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return lecun_(weight, 1.0, generator)
