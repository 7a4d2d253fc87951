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

from defib.core.finding import Cause
from defib.therapy.swap import Swap, cases
from defib.therapy.treatment import Case, Indication


class SiluSwap(Swap):
    """Put SiLUs (swish) in the place of activations."""

    slug = "silu"
    title = "Put SiLUs (swish) in the place of activations"
    activation = "silu"
    indications = (
        Indication(rule="dead-unit", strength=0.6, why="every unit gets a gradient, wherever its input lies"),
        Indication(
            rule="vanishing-gradient",
            causes=(Cause.ACTIVATION_DERIVATIVE, Cause.DERIVATIVE_AND_WEIGHTS),
            strength=0.3,
            why="its derivative takes less of the gradient away in each layer",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = cases(nn.SiLU)

    def make(self, old: nn.Module) -> nn.Module:
        del old
        return nn.SiLU()
