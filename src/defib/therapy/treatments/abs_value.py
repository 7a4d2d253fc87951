"""Put |z| in the place of activations.

What it does:
    |z|: slope 1 or -1 everywhere, so that nothing dies and nothing is attenuated.

When it helps:
    Units are dead, or a gradient is halved by each ReLU.

When it does not:
    Offsets matter: two inputs on either side of 0 give the same output. It diverged for units far
    from 0 in our own measurements.

Dose:
    ``activations``: paths of the modules to exchange; all hidden ones where none is named.

Safety:
    The answers change at once. Weights and moments stay; the optimiser goes on from there.
    Activations that are called as functions cannot be exchanged from outside: a patch is shown instead.

References:
    Berngardt 2023 (arXiv 2304.11758); science.md S2-20, S2-21.
"""

from typing import ClassVar

from torch import nn

from defib.nn import Abs
from defib.therapy.swap import Swap, for_its_slope
from defib.therapy.swap_cases import cases
from defib.therapy.treatment import Case


class AbsValueSwap(Swap):
    """Put |z| in the place of activations."""

    slug = "abs"
    title = "Put |z| in the place of activations"
    activation = "abs"
    indications = for_its_slope(dead=0.4, derivative=0.35)
    CASES: ClassVar[tuple[Case, ...]] = cases(Abs)

    def make(self, old: nn.Module) -> nn.Module:
        del old
        return Abs()
