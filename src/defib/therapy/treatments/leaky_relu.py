"""Put leaky ReLUs in the place of activations.

What it does:
    max(z, 0.01 z): the smallest change that leaves no unit without a gradient.

When it helps:
    Units are dead: their gradient becomes a hundredth instead of nothing, and they creep back in
    about a hundred times the steps of a live unit.

When it does not:
    All units of a layer are far below zero: coming back takes 1 / slope times as long (science: 32
    of 32 units shifted by 3 were still off after 25 epochs with slope 0.01).

Dose:
    ``activations``: paths of the modules to exchange; all hidden ones where none is named.

Safety:
    The answers change at once. Weights and moments stay; the optimiser goes on from there.
    Activations that are called as functions cannot be exchanged from outside: a patch is shown instead.

References:
    Maas et al. 2013, Rectifier nonlinearities improve neural network acoustic models.
"""

from typing import ClassVar

from torch import nn

from defib.core.finding import Cause
from defib.therapy.swap import Swap, cases
from defib.therapy.treatment import Case, Indication


class LeakyReluSwap(Swap):
    """Put leaky ReLUs in the place of activations."""

    slug = "leaky-relu"
    title = "Put leaky ReLUs in the place of activations"
    activation = "leaky_relu"
    indications = (
        Indication(rule="dead-unit", strength=0.7, why="every unit gets a gradient, wherever its input lies"),
        Indication(
            rule="vanishing-gradient",
            causes=(Cause.ACTIVATION_DERIVATIVE, Cause.DERIVATIVE_AND_WEIGHTS),
            strength=0.2,
            why="its derivative takes less of the gradient away in each layer",
        ),
        Indication(rule="saturated-unit", strength=0.5, why="it is not flat for large inputs"),
    )
    CASES: ClassVar[tuple[Case, ...]] = cases(nn.LeakyReLU)

    def make(self, old: nn.Module) -> nn.Module:
        del old
        return nn.LeakyReLU(0.01)
