"""Which share of a layer's outputs a dropout takes away, read off the graph.

Fused kernels keep the probability. On a CPU dropout is a product with a mask of zeros and 1 / (1 - p): a
tensor that needs no gradient, holds nothing but 0 and one number above 1, and as many zeros as that
number says. A mask is looked at where reading a tensor waits for nobody: on the host.

Letters: ``p`` share dropped, ``n`` entries looked at.
"""

import math

import torch

from defib.torchgraph.nodes import Node, saved_tensor

_MOST_ENTRIES = 4096
_FEWEST_ENTRIES = 64
_SIGMAS = 5.0
"""A true mask is further off than that once in a million."""


def dropped(node: Node) -> float:
    """The share p that is dropped at a node; 0 if it is no dropout."""
    name = node.name()
    if name == "NativeDropoutBackward0":
        return float(node._saved_p)
    return _of_mask(node) if name == "MulBackward0" else 0.0


def _of_mask(node: Node) -> float:
    """The share that a product's other factor takes away, if that factor is a dropout's mask."""
    mask = saved_tensor(node, "other")
    if mask is None or type(mask) is not torch.Tensor or mask.device.type != "cpu":
        return 0.0
    if not mask.is_floating_point() or mask.layout is not torch.strided or mask.numel() < _FEWEST_ENTRIES:
        return 0.0
    some = mask[: max(1, _MOST_ENTRIES // max(1, mask[0].numel()))].reshape(-1)[:_MOST_ENTRIES].float()
    few = some[:_FEWEST_ENTRIES]
    if bool(((few != 0) & (few != few.max())).any()):
        return 0.0  # most products are of signals, and seen not to be masks at once
    scale = float(some.max())
    # A mask that is not scaled is none of torch's; a tensor of data seldom begins with two values.
    if not 1 < scale < math.inf or not bool(((some == 0) | (some == scale)).all()):
        return 0.0
    share, zeros = 1 - 1 / scale, float((some == 0).float().mean())
    give = _SIGMAS * math.sqrt(share * (1 - share) / some.numel())
    return share if abs(zeros - share) <= give else 0.0
