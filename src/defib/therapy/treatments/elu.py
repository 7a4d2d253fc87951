"""Put ELUs in the place of activations.

What it does:
    z for z > 0, exp(z) - 1 otherwise: a gradient everywhere, outputs centred nearer to 0.

When it helps:
    Units are dead, or a layer's outputs are far from centred.

When it does not:
    Units far below zero: the derivative exp(z) is as good as nothing at z = -10.

Dose:
    ``activations``: paths of the modules to exchange; all hidden ones where none is named.

Safety:
    The answers change at once. Weights and moments stay; the optimiser goes on from there.
    Activations that are called as functions cannot be exchanged from outside: a patch is shown instead.

References:
    Clevert et al. 2016 (arXiv 1511.07289).
"""

from typing import ClassVar

from torch import nn

from defib.therapy.swap import Swap, for_its_slope
from defib.therapy.swap_cases import cases
from defib.therapy.treatment import Case


class EluSwap(Swap):
    """Put ELUs in the place of activations."""

    slug = "elu"
    title = "Put ELUs in the place of activations"
    activation = "elu"
    indications = for_its_slope(dead=0.68, derivative=0.2, flat=0.5)
    CASES: ClassVar[tuple[Case, ...]] = cases(nn.ELU)

    def make(self, old: nn.Module) -> nn.Module:
        del old
        return nn.ELU()
