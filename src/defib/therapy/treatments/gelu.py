"""Put GELUs in the place of activations.

What it does:
    z times the share of a normal distribution below z: smooth, with a small gradient below zero
    down to z of about -6.

When it helps:
    Units are dead near the kink, or the network is a transformer.

When it does not:
    Units far below zero: in float32 the derivative is exactly 0 below -6.2 or so.

Dose:
    ``activations``: paths of the modules to exchange; all hidden ones where none is named.

Safety:
    The answers change at once. Weights and moments stay; the optimiser goes on from there.
    Activations that are called as functions cannot be exchanged from outside: a patch is shown instead.

References:
    Hendrycks and Gimpel 2016 (arXiv 1606.08415).
"""

from typing import ClassVar

from torch import nn

from defib.therapy.swap import Swap, for_its_slope
from defib.therapy.swap_cases import cases
from defib.therapy.treatment import Case


class GeluSwap(Swap):
    """Put GELUs in the place of activations."""

    slug = "gelu"
    title = "Put GELUs in the place of activations"
    activation = "gelu"
    indications = for_its_slope(dead=0.6, derivative=0.3, flat=0.5)
    CASES: ClassVar[tuple[Case, ...]] = cases(nn.GELU)

    def make(self, old: nn.Module) -> nn.Module:
        del old
        return nn.GELU()
