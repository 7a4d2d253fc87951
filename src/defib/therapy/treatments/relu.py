"""Put ReLUs in the place of saturating activations.

What it does:
    max(z, 0), slope 1 wherever it is on.

When it helps:
    Sigmoids or tanhs shrink the gradient layer by layer: the derivative's factor becomes 1 /
    sqrt(2) in norm instead of at most 1/4.

When it does not:
    The weights shrink the gradient as well: draw them anew with he-init. Units can die.

Dose:
    ``activations``: paths of the modules to exchange; all hidden ones where none is named.

Safety:
    The answers change at once. Weights and moments stay; the optimiser goes on from there.
    Activations that are called as functions cannot be exchanged from outside: a patch is shown instead.

References:
    Glorot, Bordes and Bengio 2011.
"""

from typing import ClassVar

from torch import nn

from defib.therapy.swap import Swap, for_its_slope
from defib.therapy.swap_cases import cases
from defib.therapy.treatment import Case


class ReluSwap(Swap):
    """Put ReLUs in the place of saturating activations."""

    slug = "relu"
    title = "Put ReLUs in the place of saturating activations"
    activation = "relu"
    indications = for_its_slope(derivative=0.75, flat=0.6)
    CASES: ClassVar[tuple[Case, ...]] = cases(nn.ReLU, nn.Sigmoid)

    def make(self, old: nn.Module) -> nn.Module:
        del old
        return nn.ReLU()
