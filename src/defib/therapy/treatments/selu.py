"""Put SELUs in the place of activations.

What it does:
    A scaled ELU whose outputs keep mean 0 and variance 1 from layer to layer if the weights are
    drawn by lecun-init.

When it helps:
    A deep plain network without normalisation whose signal shrinks or grows.

When it does not:
    Other first weights than LeCun's, dropout other than alpha dropout, skip connections.

Dose:
    ``activations``: paths of the modules to exchange; all hidden ones where none is named.

Safety:
    The answers change at once. Weights and moments stay; the optimiser goes on from there.
    Activations that are called as functions cannot be exchanged from outside: a patch is shown instead.

References:
    Klambauer et al. 2017 (arXiv 1706.02515).
"""

from typing import ClassVar

from torch import nn

from defib.therapy.swap import Swap, for_its_slope
from defib.therapy.swap_cases import cases
from defib.therapy.treatment import Case


class SeluSwap(Swap):
    """Put SELUs in the place of activations."""

    slug = "selu"
    title = "Put SELUs in the place of activations"
    activation = "selu"
    indications = for_its_slope(dead=0.5, derivative=0.45)
    CASES: ClassVar[tuple[Case, ...]] = cases(nn.SELU)

    def make(self, old: nn.Module) -> nn.Module:
        del old
        return nn.SELU()
