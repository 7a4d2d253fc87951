"""Put NecroReLUs in the place of activations: ReLU forward, leaky backward.

What it does:
    The network's answers stay bit for bit as they are; the backward pass uses slope 0.1 where the
    ReLU is off.

When it helps:
    Some units of a layer are dead: they get a gradient without a change of the function.

When it does not:
    All units of a layer are dead: their outputs stay 0, so the next layer still learns nothing
    (science.md, truth 18).

Dose:
    ``activations``: paths of the modules to exchange; all hidden ones where none is named.

Safety:
    A ReLU is exchanged without a change of any answer; the derivative is a declared surrogate.
    Training goes on differently. Anything but a ReLU is refused.
    Activations that are called as functions cannot be exchanged from outside: a patch is shown instead.

References:
    Horuz et al. 2025 (arXiv 2505.22074) for the family; the constant slope is from the founding
    documents.
"""

from typing import ClassVar

from torch import nn

from defib.core.errors import Refused
from defib.core.prescription import Safety
from defib.nn import NecroReLU
from defib.therapy.swap import Swap, for_its_slope
from defib.therapy.swap_cases import keeping_cases
from defib.therapy.treatment import Case


class NecroReluSwap(Swap):
    """Put NecroReLUs in the place of activations: ReLU forward, leaky backward."""

    slug = "necro-relu"
    title = "Put NecroReLUs in the place of activations: ReLU forward, leaky backward"
    safety = Safety.PRESERVES
    activation = "necro_relu"
    indications = for_its_slope(dead=0.66)
    CASES: ClassVar[tuple[Case, ...]] = keeping_cases(NecroReLU)

    def make(self, old: nn.Module) -> nn.Module:
        if not isinstance(old, nn.ReLU):
            raise Refused(
                f"{self.slug} keeps the answers of a ReLU only, not those of a {type(old).__name__}"
            )
        return NecroReLU(0.1)
