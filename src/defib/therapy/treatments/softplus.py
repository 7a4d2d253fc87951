"""Put softplus in the place of activations.

What it does:
    log(1 + exp(z)): a smooth ReLU with a gradient everywhere.

When it helps:
    Units are dead, and smoothness is wanted.

When it does not:
    Outputs are never 0 and have a mean of 0.8 for standard normal z: deeper layers see inputs that
    are far from centred.

Dose:
    ``activations``: paths of the modules to exchange; all hidden ones where none is named.

Safety:
    The answers change at once. Weights and moments stay; the optimiser goes on from there.
    Activations that are called as functions cannot be exchanged from outside: a patch is shown instead.

References:
    Dugas et al. 2001; Glorot et al. 2011.
"""

from typing import ClassVar

from torch import nn

from defib.therapy.swap import Swap, for_its_slope
from defib.therapy.swap_cases import cases
from defib.therapy.treatment import Case


class SoftplusSwap(Swap):
    """Put softplus in the place of activations."""

    slug = "softplus"
    title = "Put softplus in the place of activations"
    activation = "softplus"
    indications = for_its_slope(dead=0.5, derivative=0.15)
    CASES: ClassVar[tuple[Case, ...]] = cases(nn.Softplus)

    def make(self, old: nn.Module) -> nn.Module:
        del old
        return nn.Softplus()
