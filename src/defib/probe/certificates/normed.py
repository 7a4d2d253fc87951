"""Steps for normalisations, softmax, attention and vocabularies."""

import math

import torch
from torch import Tensor, fx

from defib.probe.certificates import meeting
from defib.probe.certificates.linear import Product
from defib.probe.certificates.norms import Embedded, Normalised, Softmaxed
from defib.probe.certificates.place import Place
from defib.probe.certificates.steps import Step


def batch_norm_step(place: Place) -> Step | None:
    """In evaluation a fixed scale and shift per channel; with the sample's own statistics a sphere."""
    x, weight, bias, mean, variance = (place.argument(i) for i in range(5))
    legit = place.name.endswith("no_training")
    training, epsilon = (False, place.argument(6)) if legit else (place.argument(5), place.argument(7))
    if x not in place.varying or place.item not in {0, None}:
        return None
    channels = place.shape[1]
    spread = (1, channels, *[1] * (len(place.shape) - 2))
    scale = torch.ones(channels, dtype=torch.float64) if weight is None else weight
    shift = torch.zeros(channels, dtype=torch.float64) if bias is None else bias
    if training:
        if place.shape[0] != 1:
            return None
        groups = (channels, math.prod(place.shape[2:]))
        full = (scale.reshape(spread).expand(place.shape), shift.reshape(spread).expand(place.shape))
        return Normalised(x, groups, *full, centred=True, dtype=place.dtype)
    factor = scale / torch.sqrt(variance + epsilon)
    offset = (shift - mean * factor).reshape(spread)
    # The model may round x - mean, the factor, their product and the sum: charged on |x w| + |mean w| + |b|.
    room = ((mean * factor).abs() + shift.abs()).reshape(spread)
    return Product(
        lambda v, w: v * w, x, factor.reshape(spread), offset,
        terms=8, spread=1, dtype=place.dtype, local=True, room=room,
    )  # fmt: skip


def layer_norm_step(place: Place) -> Step | None:
    """LayerNorm over the last dimensions."""
    if place.item != 0 or place.argument(0) not in place.varying:
        return None
    shape = tuple(place.argument(1))
    scale, shift = place.argument(2), place.argument(3)
    ones, zeros = torch.ones(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
    d = math.prod(shape)
    full = [
        v.expand(place.shape) for v in (ones if scale is None else scale, zeros if shift is None else shift)
    ]
    groups = (math.prod(place.shape) // d, d)
    return Normalised(place.parents[0], groups, full[0], full[1], centred=True, dtype=place.dtype)


def group_norm_step(place: Place) -> Step | None:
    """GroupNorm: native_group_norm(x, weight, bias, N, C, HxW, groups, eps)."""
    if place.item != 0 or place.argument(0) not in place.varying:
        return None
    channels, count = place.shape[1], int(place.argument(6))
    spread = (1, channels, *[1] * (len(place.shape) - 2))
    given = place.argument(1), place.argument(2)
    scale = torch.ones(channels, dtype=torch.float64) if given[0] is None else given[0]
    shift = torch.zeros(channels, dtype=torch.float64) if given[1] is None else given[1]
    full = [v.reshape(spread).expand(place.shape) for v in (scale, shift)]
    total = place.shape[0] * count
    groups = (total, math.prod(place.shape) // total)
    return Normalised(place.parents[0], groups, full[0], full[1], centred=True, dtype=place.dtype)


def softmax_step(place: Place) -> Step:
    """Softmax along one dimension."""
    return Softmaxed(place.parents[0], int(place.argument(1)), place.dtype)


def embedding_step(place: Place) -> Step | None:
    """Rows of a fixed table."""
    table = place.argument(0)
    index = place.node.args[1]
    return Embedded(index, table) if isinstance(index, fx.Node) and isinstance(table, Tensor) else None


def fused_attention_step(place: Place) -> Step | None:
    """Scaled dot-product attention: whatever queries and keys are, a mean of the values' rows."""
    if place.item != 0 or place.argument(3, "dropout_p", 0.0) != 0:
        return None
    value = place.node.args[2]
    if not isinstance(value, fx.Node) or value not in place.varying:
        return None
    return meeting.Mixed(value, place.shape, with_zero=True, dtype=place.dtype)
