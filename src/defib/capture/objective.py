"""What the loss compares: the model's output, the targets, and the data that went in.

Read off the graph on sampled steps, before ``backward`` frees it. Answers, with
numbers, whether the output still depends on the input, what the best constant
answer would have cost on the same batch, and whether the data has a sane scale.

Letters: ``B`` batch, ``C`` classes or outputs, ``D`` input features.
"""

import torch

from defib.capture.border import Transfer
from defib.capture.graph import Producer, Walk
from defib.capture.nodes import Node, saved_tensor
from defib.capture.preactivation import recompute_output
from defib.core.run import OBJECTIVE_COLUMNS

_CLASS_LOSSES = {"NllLossBackward0", "NllLoss2DBackward0", "MultiMarginLossBackward0"}
_BINARY_LOSSES = {"BinaryCrossEntropyBackward0", "BinaryCrossEntropyWithLogitsBackward0"}
_SQUARE_LOSSES = {"MseLossBackward0"}

_MAX_CLASSES = 4096
_MAX_ENTRIES = 1 << 16


class ObjectiveReading:
    """Numbers of one backward; all on their way to the host in one copy.

    Args:
        graph: The graph that backward is about to run through.
        loss: What backward was called on.
    """

    def __init__(self, graph: Walk, loss: torch.Tensor) -> None:
        self.operation = graph.loss_node.name() if graph.loss_node is not None else ""
        self.output_layer = graph.last.owner.path if graph.last is not None else ""
        self.input_layer = graph.first.owner.path if graph.first is not None else ""
        values: dict[str, torch.Tensor] = {"loss": loss.detach().reshape(())}
        with torch.no_grad(), torch.autocast(loss.device.type, enabled=False):
            if graph.last is not None:
                values |= _output(graph.last)
            if graph.loss_node is not None:
                values |= _targets(graph.loss_node)
            if graph.first is not None:
                values |= _inputs(graph.first)
        missing = loss.new_full((), float("nan"), dtype=torch.float64)
        row = [values.get(name, missing).to(loss.device, torch.float64) for name in OBJECTIVE_COLUMNS]
        self.transfer = Transfer(torch.stack(row))


def _spread(prefix: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """Range, mean and the RMS over columns of the standard deviation over the batch."""
    x = _some(tensor).double()
    x = x.reshape(x.shape[0], -1) if x.ndim else x.reshape(1, 1)
    return {
        f"{prefix}_low": x.min(),
        f"{prefix}_high": x.max(),
        f"{prefix}_mean": x.mean(),
        f"{prefix}_rms": x.square().mean().sqrt(),
        f"{prefix}_spread": x.var(0, unbiased=False).mean().sqrt(),
    }


def _number(value: float, beside: torch.Tensor) -> torch.Tensor:
    """A number on a tensor's device, made there: a copy from the host would wait."""
    return torch.full((), float(value), dtype=torch.float64, device=beside.device)


def _some(tensor: torch.Tensor) -> torch.Tensor:
    """The first rows, so that at most ``_MAX_ENTRIES`` entries are read."""
    rows = max(1, _MAX_ENTRIES // max(1, tensor[0].numel())) if tensor.ndim else 1
    return tensor[:rows] if tensor.ndim else tensor


def _output(last: Producer) -> dict[str, torch.Tensor]:
    z = recompute_output(last)
    return {} if z is None or not z.numel() else _spread("output", z)


def _targets(node: Node) -> dict[str, torch.Tensor]:
    prediction, target = saved_tensor(node, "self"), saved_tensor(node, "target")
    if prediction is None or target is None or not target.numel():
        return {}
    values = _spread("prediction", prediction)
    if node.name() in _CLASS_LOSSES:
        ignored = int(getattr(node, "_saved_ignore_index", -100))
        return values | _classes(prediction, target, ignored, plain=_plain(node))
    values |= _spread("target", target)
    stretched = any(0 in t.stride() and t.numel() > 1 for t in (prediction, target))
    values["broadcast"] = _number(float(stretched and prediction.stride() != target.stride()), target)
    if not _plain(node):
        return values
    y = _some(target).double()
    y = y.reshape(y.shape[0], -1)
    if node.name() in _SQUARE_LOSSES:
        values["constant_loss"] = y.var(0, unbiased=False).mean()
    elif node.name() in _BINARY_LOSSES:
        p = y.mean(0).clamp(1e-12, 1 - 1e-12)
        values["constant_loss"] = -(p * p.log() + (1 - p) * (1 - p).log()).mean()
    return values


def _plain(node: Node) -> bool:
    """Whether the loss is the unweighted mean over the batch, so that a constant's loss compares with it."""
    weighted = any(
        isinstance(getattr(node, f"_saved_{name}", None), torch.Tensor) for name in ("weight", "pos_weight")
    )
    return not weighted and int(getattr(node, "_saved_reduction", 1)) == 1


def _classes(
    prediction: torch.Tensor, target: torch.Tensor, ignored: int, *, plain: bool
) -> dict[str, torch.Tensor]:
    """Label statistics of a classification batch; the constant's loss is the labels' entropy."""
    outputs = int(prediction.shape[1]) if prediction.ndim > 1 else int(prediction.shape[0])
    values = {"outputs": _number(outputs, target)}
    if outputs > _MAX_CLASSES:
        return values
    labels = target.reshape(-1)[: _MAX_ENTRIES // outputs]
    counts = (labels[:, None] == torch.arange(outputs, device=labels.device)).sum(0).double()
    p = counts / counts.sum().clamp(min=1)
    values["classes"] = (counts > 0).sum().double()
    if plain:
        values["constant_loss"] = -(p * p.clamp(min=1e-300).log()).sum()
    values["ignored"] = (labels == ignored).double().mean()
    return values


def _inputs(first: Producer) -> dict[str, torch.Tensor]:
    """Scale of the data as it enters the first layer, feature by feature (channel by channel for images)."""
    x = None
    for field in ("mat1", "input", "self"):
        x = saved_tensor(first.node, field) if x is None else x
    if x is None or x.ndim < 2 or not x.is_floating_point() or not x.numel():
        return {}
    x = _some(x).double()
    finite = torch.isfinite(x)
    bad = 1.0 - finite.double().mean()
    x = torch.where(finite, x, torch.zeros((), dtype=x.dtype, device=x.device))
    axes = (0, *range(2, x.ndim))
    mean, std = x.mean(axes), x.var(axes, unbiased=False).sqrt()
    return {
        "input_low": x.min(),
        "input_high": x.max(),
        "input_mean": mean.square().mean().sqrt(),
        "input_std": std.square().mean().sqrt(),
        "input_std_high": std.max(),
        "input_std_low": torch.where(std > 0, std, torch.full_like(std, float("inf"))).min(),
        "input_constant": (std == 0).double().mean(),
        "input_nonfinite": bad,
        "input_features": _number(mean.numel(), x),
        "samples": _number(x.shape[0], x),
    }
