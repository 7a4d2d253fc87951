"""Put several activations into each layer, in groups of units.

What it does:
    The first third of the units keeps a ReLU, the second gets ELU, the last tanh.

When it helps:
    Which activation suits is unknown, and some units must stay alive.

When it does not:
    Convolutions over sequences have three axes with the units in the middle: there the last axis
    is cut into groups, which is no group of units.

Dose:
    ``activations``: paths of the modules to exchange; all hidden ones where none is named.

Safety:
    The answers change at once. Weights and moments stay; the optimiser goes on from there.
    Activations that are called as functions cannot be exchanged from outside: a patch is shown instead.

References:
    science.md S2-30: supported as an experiment, without a published advantage.
"""

from typing import ClassVar

from torch import nn

from defib.nn import Mixed
from defib.therapy.swap import Swap, for_its_slope
from defib.therapy.swap_cases import cases
from defib.therapy.treatment import Case


class MixedSwap(Swap):
    """Put several activations into each layer, in groups of units."""

    slug = "mixed"
    title = "Put several activations into each layer, in groups of units"
    activation = "mixed"
    indications = for_its_slope(dead=0.45, derivative=0.25)
    CASES: ClassVar[tuple[Case, ...]] = cases(Mixed)

    def make(self, old: nn.Module) -> nn.Module:
        del old
        return Mixed([nn.ReLU(), nn.ELU(), nn.Tanh()])
