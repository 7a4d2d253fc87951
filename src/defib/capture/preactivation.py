"""The pre-activation that autograd did not keep, computed again from what it did keep.

A ReLU keeps its output only; where that is 0 the pre-activation is gone. It is
recomputed from the producer's saved input and its parameters, which at the time
of ``backward`` are still those of the forward pass. Only the first rows of the
batch are taken, so that the cost stays a fraction of that layer's forward.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

from defib.capture.graph import Producer, Tap
from defib.torchgraph.nodes import saved_tensor

ROWS = 64
"""Rows of the batch that are recomputed at most; images and sequences count by their positions."""


def recompute(tap: Tap) -> torch.Tensor | None:
    """Pre-activation of the first rows of the batch; None where it cannot be had.

    Returns:
        Shape (n, ...) as the producer's output, n <= ``ROWS``. Equal to the
        forward's own value up to the rounding of the kernel chosen for n rows.
    """
    return None if tap.producer is None or not tap.direct else recompute_output(tap.producer)


def recompute_output(producer: Producer) -> torch.Tensor | None:
    """What a producer gave for the first rows of the batch; as :func:`recompute`."""
    name = producer.node.name()
    parameters = {p.ndim: p.detach() for p in producer.parameters}
    if name in {"AddmmBackward0", "MmBackward0"}:
        return _linear(producer, parameters)
    if name == "ConvolutionBackward0":
        return _convolution(producer)
    if name == "NativeBatchNormBackward0":
        return _batch_norm(producer)
    return None


def _linear(producer: Producer, parameters: dict[int, torch.Tensor]) -> torch.Tensor | None:
    x = saved_tensor(producer.node, "mat1")
    x = saved_tensor(producer.node, "self") if x is None else x
    weight = parameters.get(2)
    if x is None or weight is None or producer.owner.kind == "Conv1D":
        return None
    if x.ndim != 2 or x.shape[1] != weight.shape[1]:
        return None
    bias = parameters.get(1)
    return F.linear(x[:ROWS], weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def _convolution(producer: Producer) -> torch.Tensor | None:
    node: Any = producer.node
    x, weight = saved_tensor(node, "input"), saved_tensor(node, "weight")
    if x is None or weight is None or x.ndim < 3:
        return None
    positions = max(1, x[0, 0].numel())
    bias = next((p.detach().to(x.dtype) for p in producer.parameters if p.ndim == 1), None)
    return torch.convolution(
        x[: max(1, ROWS * 16 // positions)],
        weight,
        bias,
        node._saved_stride,
        node._saved_padding,
        node._saved_dilation,
        node._saved_transposed,
        node._saved_output_padding,
        node._saved_groups,
    )


def _batch_norm(producer: Producer) -> torch.Tensor | None:
    node: Any = producer.node
    x = saved_tensor(node, "input")
    training = bool(node._saved_training)
    mean = saved_tensor(node, "result1" if training else "running_mean")
    scale = saved_tensor(node, "result2" if training else "running_var")
    vectors = [p.detach() for p in producer.parameters if p.ndim == 1]
    if x is None or mean is None or scale is None or len(vectors) != 2 or x.ndim < 2:
        return None
    inverse_std = scale if training else (scale + node._saved_eps).rsqrt()
    positions = max(1, x[0].numel() // x.shape[1])
    x = x[: max(1, ROWS * 16 // positions)]
    shape = (1, -1) + (1,) * (x.ndim - 2)
    gamma, beta = vectors
    normal = (x - mean.view(shape)) * inverse_std.view(shape)
    return normal * gamma.view(shape) + beta.view(shape)
