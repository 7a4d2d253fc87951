"""Put leaky ReLUs in the place of activations.

What it does:
    max(z, 0.01 z): the smallest change that leaves no unit without a gradient.

When it helps:
    Units are dead: their gradient becomes a hundredth instead of nothing, and they creep back in
    about a hundred times the steps of a live unit.

When it does not:
    All units of a layer are far below zero: coming back takes 1 / slope times as long (science: 32
    of 32 units shifted by 3 were still off after 25 epochs with slope 0.01).

Dose:
    ``activations``: paths of the modules to exchange; all hidden ones where none is named.

Safety:
    The answers change at once. Weights and moments stay; the optimiser goes on from there.
    Activations that are called as functions cannot be exchanged from outside: a patch is shown instead.

References:
    Maas et al. 2013, Rectifier nonlinearities improve neural network acoustic models.
"""

from typing import ClassVar

from torch import nn

from defib.therapy.swap import Swap, for_its_slope
from defib.therapy.swap_cases import cases
from defib.therapy.treatment import Case


class LeakyReluSwap(Swap):
    """Put leaky ReLUs in the place of activations."""

    slug = "leaky-relu"
    title = "Put leaky ReLUs in the place of activations"
    activation = "leaky_relu"
    indications = for_its_slope(dead=0.7, derivative=0.2, flat=0.5)
    CASES: ClassVar[tuple[Case, ...]] = cases(nn.LeakyReLU)

    def make(self, old: nn.Module) -> nn.Module:
        del old
        return nn.LeakyReLU(0.01)
