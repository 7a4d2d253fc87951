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

from defib.core.finding import Cause
from defib.nn import Abs
from defib.therapy.swap import Swap, cases
from defib.therapy.treatment import Case, Indication


class AbsValueSwap(Swap):
    """Put |z| in the place of activations."""

    slug = "abs"
    title = "Put |z| in the place of activations"
    activation = "abs"
    indications = (
        Indication(rule="dead-unit", strength=0.4, why="every unit gets a gradient, wherever its input lies"),
        Indication(
            rule="vanishing-gradient",
            causes=(Cause.ACTIVATION_DERIVATIVE, Cause.DERIVATIVE_AND_WEIGHTS),
            strength=0.35,
            why="its derivative takes less of the gradient away in each layer",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = cases(Abs)

    def make(self, old: nn.Module) -> nn.Module:
        del old
        return Abs()
