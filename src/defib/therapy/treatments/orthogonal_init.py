"""Draw the weights anew, as orthogonal matrices times the activation's gain.

What it does:
    Rows (or columns, where there are fewer of them) become orthonormal times the gain, biases 0.
    What the optimiser remembers of these parameters is taken away with them.

When it helps:
    Deep plain networks and recurrences: all singular values are alike, so no direction is lost at
    once.

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
    Saxe et al. 2014 (arXiv 1312.6120).
"""

from typing import ClassVar

import torch

from defib.nn.initialisers import orthogonal_
from defib.therapy.redraw import Redraw, cases, to_scale
from defib.therapy.treatment import Case


class OrthogonalInit(Redraw):
    """Draw the weights anew, as orthogonal matrices times the activation's gain."""

    slug = "orthogonal-init"
    title = "Draw the weights anew, as orthogonal matrices times the activation's gain"
    indications = to_scale(start=0.7, weights=0.65)
    CASES: ClassVar[tuple[Case, ...]] = cases(0.5, rows=2**0.5)

    def draw(self, weight: torch.Tensor, gain: float, generator: torch.Generator) -> torch.Tensor:
        return orthogonal_(weight, gain, generator)
