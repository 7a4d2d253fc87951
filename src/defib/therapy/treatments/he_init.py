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

from defib.nn.initialisers import he_
from defib.therapy.redraw import Redraw, cases, to_scale
from defib.therapy.treatment import Case


class HeInit(Redraw):
    """Draw the weights anew, with He's variance for the activation behind them."""

    slug = "he-init"
    title = "Draw the weights anew, with He's variance for the activation behind them"
    indications = to_scale(start=0.85, weights=0.75)
    CASES: ClassVar[tuple[Case, ...]] = cases((2 / 8) ** 0.5)

    def draw(self, weight: torch.Tensor, gain: float, generator: torch.Generator) -> torch.Tensor:
        return he_(weight, gain, generator)
