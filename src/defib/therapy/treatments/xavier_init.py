"""Draw the weights anew, with Glorot's variance.

What it does:
    Weights become N(0, 2 gain^2 / (fan in + fan out)), biases 0.
    What the optimiser remembers of these parameters is taken away with them.

When it helps:
    As he-init, for tanh and for layers whose width changes: it is a compromise between forward and
    backward signal.

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
    Glorot and Bengio 2010.
"""

from typing import ClassVar

import torch

from defib.nn.initialisers import xavier_
from defib.therapy.redraw import Redraw, cases, to_scale
from defib.therapy.treatment import Case


class XavierInit(Redraw):
    """Draw the weights anew, with Glorot's variance."""

    slug = "xavier-init"
    title = "Draw the weights anew, with Glorot's variance"
    indications = to_scale(start=0.75, weights=0.65)
    CASES: ClassVar[tuple[Case, ...]] = cases((2 / 8) ** 0.5)

    def draw(self, weight: torch.Tensor, gain: float, generator: torch.Generator) -> torch.Tensor:
        return xavier_(weight, gain, generator)
