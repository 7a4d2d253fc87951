"""Draw the weights anew, with He's variance for the activation behind them.

What it does:
    Weights become N(0, gain^2 / fan in), biases 0. The gain is 1 / sqrt(E[f'(z)^2]) of the
    activation, which is sqrt(2) for a ReLU; 1 for the last layer.
    What the optimiser remembers of these parameters is taken away with them.

When it helps:
    The first weights were too small or too large, or the gradient vanishes or explodes through the
    weights.

When it does not:
    Activations whose derivative shrinks the gradient in each layer (sigmoid): no weights make up for
    it without saturating them. A network that has already learnt loses what it knew.

Dose:
    ``layer``: path of one layer; all linear layers and convolutions without it. ``activation``: the
    name of the activation behind them, where it is called as a function and cannot be seen.

Safety:
    What those layers had learnt is lost. Tied and parametrised weights are refused. The treatment
    draws from a generator of its own, equal on all ranks.

References:
    He et al. 2015 (arXiv 1502.01852).
"""

from typing import ClassVar

import torch

from defib.core.finding import Cause
from defib.nn.initialisers import he_
from defib.therapy.redraw import Redraw, cases
from defib.therapy.treatment import Case, Indication

_BACK_TO_SCALE = "weights of the right variance neither shrink nor multiply the signal"


class HeInit(Redraw):
    """Draw the weights anew, with He's variance for the activation behind them."""

    slug = "he-init"
    title = "Draw the weights anew, with He's variance for the activation behind them"
    indications = (
        Indication(
            rule="initialisation",
            causes=(Cause.WEIGHTS_TOO_SMALL, Cause.WEIGHTS_TOO_LARGE, Cause.ZERO_WEIGHTS, Cause.CLONED_UNITS),
            strength=0.85,
            why=_BACK_TO_SCALE,
        ),
        Indication(
            rule="vanishing-gradient",
            causes=(Cause.WEIGHTS, Cause.DERIVATIVE_AND_WEIGHTS),
            strength=0.75,
            why=_BACK_TO_SCALE,
        ),
        Indication(
            rule="exploding-gradient",
            causes=(Cause.WEIGHTS, Cause.DERIVATIVE_AND_WEIGHTS),
            strength=0.75,
            why=_BACK_TO_SCALE,
        ),
        Indication(rule="dead-unit", causes=(Cause.BORN_DEAD,), strength=0.6, why=_BACK_TO_SCALE),
        Indication(rule="saturated-unit", strength=0.65, why=_BACK_TO_SCALE),
        Indication(rule="cloned-unit", strength=0.85, why="units that are drawn apart learn apart"),
    )
    CASES: ClassVar[tuple[Case, ...]] = cases((2 / 8) ** 0.5)

    def draw(self, weight: torch.Tensor, gain: float, generator: torch.Generator) -> torch.Tensor:
        return he_(weight, gain, generator)
