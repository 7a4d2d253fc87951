"""Draw the weights anew, with LeCun's variance.

What it does:
    Weights become N(0, 1 / fan in) whatever the activation, biases 0.
    What the optimiser remembers of these parameters is taken away with them.

When it helps:
    SELU networks, which need exactly this; linear layers.

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
    LeCun et al. 1998; Klambauer et al. 2017 for SELU.
"""

from typing import ClassVar

import torch

from defib.nn.initialisers import lecun_
from defib.therapy.redraw import Redraw, cases, to_scale
from defib.therapy.treatment import Case


class LecunInit(Redraw):
    """Draw the weights anew, with LeCun's variance."""

    slug = "lecun-init"
    title = "Draw the weights anew, with LeCun's variance"
    indications = to_scale(start=0.5, weights=0.4)
    CASES: ClassVar[tuple[Case, ...]] = cases((1 / 8) ** 0.5)

    def draw(self, weight: torch.Tensor, gain: float, generator: torch.Generator) -> torch.Tensor:
        del gain
        return lecun_(weight, 1.0, generator)
