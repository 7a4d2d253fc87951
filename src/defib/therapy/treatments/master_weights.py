"""Keep the weights in float32, and compute in half precision.

What it does:
    Shows the lines that keep float32 weights and compute in bfloat16 or float16.

When it helps:
    Updates are smaller than the spacing of half-precision weights, and rounding takes them.

When it does not:
    The weights are float32 already: then the learning rate is too small.

Dose:
    None: the patch is worded from the evidence.

Safety:
    Shown, never done: only the source can be changed.

References:
    Micikevicius et al. 2018 (arXiv 1710.03740), section 3.1; Zamirai et al. 2021 (arXiv 2010.06192) on
    stochastic rounding.
"""

from typing import ClassVar

from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.core.run import RunView
from defib.therapy.advice import Advice
from defib.therapy.treatment import Indication


class MasterWeights(Advice):
    """float32 weights under autocast."""

    slug = "master-weights"
    title = "Keep the weights in float32, and compute in half precision"
    indications: ClassVar[tuple[Indication, ...]] = (
        Indication(
            rule="update-lost",
            causes=(Cause.ROUNDED_AWAY,),
            strength=0.9,
            why="float32 weights take updates a hundred thousand times smaller",
        ),
        Indication(
            rule="update-lost",
            causes=(Cause.EPSILON_LOST, Cause.STEPS_SKIPPED),
            strength=0.75,
            why="the optimiser's own numbers do not round to 0 or overflow in float32",
        ),
        Indication(
            rule="gradient-underflow",
            strength=0.6,
            why="bfloat16 has the range of float32: its gradients need no scale",
        ),
    )

    def words(self, finding: Finding, run: RunView) -> str:
        del finding, run
        return (
            "leave the model in float32 (no .half(), no .bfloat16(), no torch_dtype=) and compute under "
            "with torch.autocast(x.device.type, dtype=torch.bfloat16): loss = ...; weights that must stay "
            "in bfloat16 "
            "need stochastic rounding (torchao.optim)"
        )
