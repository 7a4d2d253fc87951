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

from defib.core.finding import Cause
from defib.therapy.normalise import InsertNorm, cases, units_of
from defib.therapy.redraw import Dense
from defib.therapy.treatment import Case, Indication


class LayerNorm(InsertNorm):
    """Put layer normalisation behind layers, before their activation."""

    slug = "layer-norm"
    title = "Put layer normalisation behind layers, before their activation"
    indications = (
        Indication(
            rule="vanishing-gradient", strength=0.8, why="each layer's signal is brought back to scale"
        ),
        Indication(
            rule="exploding-gradient", strength=0.8, why="each layer's signal is brought back to scale"
        ),
        Indication(
            rule="initialisation",
            causes=(Cause.WEIGHTS_TOO_SMALL, Cause.WEIGHTS_TOO_LARGE),
            strength=0.74,
            why="the scale of the weights no longer matters to the signal",
        ),
        Indication(rule="dead-unit", strength=0.65, why="every unit sees inputs on both sides of its kink"),
        Indication(rule="saturated-unit", strength=0.70, why="inputs stay where the activation has a slope"),
        Indication(
            rule="unscaled-data",
            causes=(Cause.LARGE_INPUTS, Cause.SMALL_INPUTS),
            strength=0.65,
            why="the first layer's output no longer has the data's scale",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = cases()

    def make(self, layer: Dense) -> nn.Module:
        return (
            nn.LayerNorm(units_of(layer))
            if isinstance(layer, nn.Linear)
            else nn.GroupNorm(1, units_of(layer))
        )
