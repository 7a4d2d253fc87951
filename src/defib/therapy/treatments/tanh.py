"""Put tanh in the place of activations.

What it does:
    tanh(z): bounded and centred.

When it helps:
    Exponentials make the signal explode from layer to layer, or sigmoids starve the gradient: tanh's
    derivative reaches 1, sigmoid's 1/4.

When it does not:
    Large pre-activations: it saturates and the gradient vanishes.

Dose:
    ``activations``: paths of the modules to exchange; all hidden ones where none is named.

Safety:
    The answers change at once. Weights and moments stay; the optimiser goes on from there.
    Activations that are called as functions cannot be exchanged from outside: a patch is shown instead.

References:
    LeCun et al. 1998, Efficient BackProp, section 4.4.
"""

from typing import ClassVar

from torch import nn

from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.core.prescription import Dose
from defib.core.run import RunView
from defib.therapy.swap import Swap, for_its_slope, overflowing
from defib.therapy.swap_cases import cases
from defib.therapy.treatment import Case, Indication


class TanhSwap(Swap):
    """Put tanh in the place of activations."""

    slug = "tanh"
    title = "Put tanh in the place of activations"
    activation = "tanh"
    indications = (
        *for_its_slope(dead=0.45, derivative=0.5),
        Indication(
            rule="non-finite",
            causes=(Cause.NON_FINITE_FORWARD, Cause.NON_FINITE_LOSS),
            strength=0.85,
            why="a bounded activation cannot overflow as an exponential does",
        ),
        Indication(
            rule="exploding-gradient",
            causes=(Cause.ACTIVATION_DERIVATIVE, Cause.DERIVATIVE_AND_WEIGHTS),
            strength=0.95,
            why="a bounded activation amplifies nothing, as an exponential does",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = cases(nn.Tanh)

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        # What weights amplify is for weights; only an exponential is worse off than with its bound.
        if finding.rule == "exploding-gradient" and not overflowing(run):
            return None
        return super().dose(finding, run)

    def make(self, old: nn.Module) -> nn.Module:
        del old
        return nn.Tanh()
