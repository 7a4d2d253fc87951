"""Put SUGAR ReLUs in the place of activations: ReLU forward, B-SiLU backward.

What it does:
    The network's answers stay bit for bit as they are; the backward pass uses the derivative of
    B-SiLU.

When it helps:
    Some units of a layer are dead, and many are off for most samples.

When it does not:
    All units of a layer are dead. The gradient is not the loss's: its size is some 1.5 times the
    true one, which acts like a larger learning rate.

Dose:
    ``activations``: paths of the modules to exchange; all hidden ones where none is named.

Safety:
    A ReLU is exchanged without a change of any answer; the derivative is a declared surrogate.
    Training goes on differently. Anything but a ReLU is refused.
    Activations that are called as functions cannot be exchanged from outside: a patch is shown instead.

References:
    Horuz et al. 2025 (arXiv 2505.22074).
"""

from typing import ClassVar

from torch import nn

from defib.core.errors import Refused
from defib.core.prescription import Safety
from defib.nn import SugarReLU
from defib.therapy.swap import Swap, for_its_slope
from defib.therapy.swap_cases import keeping_cases
from defib.therapy.treatment import Case


class SugarReluSwap(Swap):
    """Put SUGAR ReLUs in the place of activations: ReLU forward, B-SiLU backward."""

    slug = "sugar-relu"
    title = "Put SUGAR ReLUs in the place of activations: ReLU forward, B-SiLU backward"
    safety = Safety.PRESERVES
    activation = "sugar_relu"
    indications = for_its_slope(dead=0.64)
    CASES: ClassVar[tuple[Case, ...]] = keeping_cases(SugarReLU)

    def make(self, old: nn.Module) -> nn.Module:
        if not isinstance(old, nn.ReLU):
            raise Refused(
                f"{self.slug} keeps the answers of a ReLU only, not those of a {type(old).__name__}"
            )
        return SugarReLU()
