"""Put layer normalisation behind layers, before their activation.

What it does:
    Each sample's pre-activations get mean 0 and variance 1 over the layer's units (over units and
    places for a convolution), then a learnt scale and offset.
    It becomes a child of the layer, so that the layer keeps its name and its parameters theirs.

When it helps:
    As batch-norm, where batches are small or samples must not see each other.

When it does not:
    Layers of few units: with two of them only the sign of their difference is left.

Dose:
    ``layers``: paths of linear layers and convolutions; all but the last without it.

Safety:
    The answers change at once. The new parameters are given to the optimiser that owns the layer, and
    are refused in a distributed job. A checkpoint from now on has them under ``LAYER.defib_norm``.

References:
    Ba, Kiros and Hinton 2016 (arXiv 1607.06450); Wu and He 2018 for group normalisation.
"""

from typing import ClassVar

from torch import nn

from defib.therapy.normalise import InsertNorm, cases, level, units_of
from defib.therapy.redraw import Dense
from defib.therapy.treatment import Case


class LayerNorm(InsertNorm):
    """Put layer normalisation behind layers, before their activation."""

    slug = "layer-norm"
    title = "Put layer normalisation behind layers, before their activation"
    indications = level(signal=0.8, units=0.65)
    CASES: ClassVar[tuple[Case, ...]] = cases()

    def make(self, layer: Dense) -> nn.Module:
        return (
            nn.LayerNorm(units_of(layer))
            if isinstance(layer, nn.Linear)
            else nn.GroupNorm(1, units_of(layer))
        )
