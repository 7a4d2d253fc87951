"""Put PReLUs in the place of activations: a slope that is learnt.

What it does:
    max(z, 0) + a min(z, 0), one a per activation, from 0.25 and trained by the optimiser of the
    network.

When it helps:
    Units are dead and the right slope is unknown.

When it does not:
    The optimiser decays its weights: a is decayed too. Under DDP a parameter cannot be added to the
    running network.

Dose:
    ``activations``: paths of the modules to exchange; all hidden ones where none is named.

Safety:
    The answers change at once. Weights and moments stay; the optimiser goes on from there.
    Activations that are called as functions cannot be exchanged from outside: a patch is shown instead.

References:
    He et al. 2015 (arXiv 1502.01852), section 2.1.
"""

from typing import ClassVar

from torch import nn

from defib.therapy.swap import Swap, for_its_slope
from defib.therapy.swap_cases import cases
from defib.therapy.treatment import Case


class PreluSwap(Swap):
    """Put PReLUs in the place of activations: a slope that is learnt."""

    slug = "prelu"
    title = "Put PReLUs in the place of activations: a slope that is learnt"
    activation = "prelu"
    indications = for_its_slope(dead=0.65, derivative=0.2)
    CASES: ClassVar[tuple[Case, ...]] = cases(nn.PReLU)

    def make(self, old: nn.Module) -> nn.Module:
        del old
        return nn.PReLU(init=0.25)
