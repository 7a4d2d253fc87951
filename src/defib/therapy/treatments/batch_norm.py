"""Put batch normalisation behind layers, before their activation.

What it does:
    Each unit's pre-activations get mean 0 and variance 1 over the batch, then a learnt scale (1 at
    first) and offset (0).
    It becomes a child of the layer, so that the layer keeps its name and its parameters theirs.

When it helps:
    The signal or the gradient shrinks or grows from layer to layer, units are born dead or
    saturated: right after the treatment about half of a ReLU's inputs are positive in every batch.

When it does not:
    Batches of one or two samples, sequences of different lengths. It does not prevent death for
    ever: the offset is learnt (science.md, truth 7).

Dose:
    ``layers``: paths of linear layers and convolutions; all but the last without it.

Safety:
    The answers change at once. The new parameters are given to the optimiser that owns the layer, and
    are refused in a distributed job. A checkpoint from now on has them under ``LAYER.defib_norm``.

References:
    Ioffe and Szegedy 2015 (arXiv 1502.03167).
"""

from typing import ClassVar

from torch import nn

from defib.nn.norms import UnitNorm
from defib.therapy.normalise import InsertNorm, cases, level, units_of
from defib.therapy.redraw import Dense
from defib.therapy.treatment import Case


class BatchNorm(InsertNorm):
    """Put batch normalisation behind layers, before their activation."""

    slug = "batch-norm"
    title = "Put batch normalisation behind layers, before their activation"
    indications = level(signal=0.86, units=0.75)
    CASES: ClassVar[tuple[Case, ...]] = cases()

    def make(self, layer: Dense) -> nn.Module:
        return UnitNorm(units_of(layer), channels=not isinstance(layer, nn.Linear))
