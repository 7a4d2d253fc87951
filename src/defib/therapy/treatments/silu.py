"""Put SiLUs (swish) in the place of activations.

What it does:
    z sigmoid(z): smooth, with a gradient at every z that float32 can tell from 0 down to -88.

When it helps:
    Units are dead and stay within some units below zero.

When it does not:
    The derivative is negative below z = -1.28: a unit there first moves away from the kink for a
    positive error.

Dose:
    ``activations``: paths of the modules to exchange; all hidden ones where none is named.

Safety:
    The answers change at once. Weights and moments stay; the optimiser goes on from there.
    Activations that are called as functions cannot be exchanged from outside: a patch is shown instead.

References:
    Elfwing et al. 2017 (arXiv 1702.03118).
"""

from typing import ClassVar

from torch import nn

from defib.therapy.swap import Swap, for_its_slope
from defib.therapy.swap_cases import cases
from defib.therapy.treatment import Case


class SiluSwap(Swap):
    """Put SiLUs (swish) in the place of activations."""

    slug = "silu"
    title = "Put SiLUs (swish) in the place of activations"
    activation = "silu"
    indications = for_its_slope(dead=0.6, derivative=0.3)
    CASES: ClassVar[tuple[Case, ...]] = cases(nn.SiLU)

    def make(self, old: nn.Module) -> nn.Module:
        del old
        return nn.SiLU()
