"""What the loss compares: the model's output, the targets, and the data that went in.

Read off the graph on sampled steps, before ``backward`` frees it. Answers, with
numbers, whether the output still depends on the input, what the best constant
answer would have cost on the same batch, and whether the data has a sane scale.

Letters: ``B`` batch, ``C`` classes or outputs, ``D`` input features.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from defib.capture import confusion
from defib.capture.border import Transfer
from defib.capture.graph import Producer, Walk
from defib.capture.preactivation import recompute_output
from defib.capture.relation import relation
from defib.capture.tokens import most_frequent
from defib.capture.written import Written, written_out
from defib.core.objective import OBJECTIVE_COLUMNS
from defib.torchgraph.nodes import Node, saved_tensor

_CLASS_LOSSES = {"NllLossBackward0", "NllLoss2DBackward0", "MultiMarginLossBackward0"}
_BINARY_LOSSES = {"BinaryCrossEntropyBackward0", "BinaryCrossEntropyWithLogitsBackward0"}
_SQUARE_LOSSES = {"MseLossBackward0"}
_THRESHOLDS = {"BinaryCrossEntropyBackward0": 0.5, "BinaryCrossEntropyWithLogitsBackward0": 0.0}

_MAX_CLASSES = 4096
_MAX_ENTRIES = 1 << 16


class ObjectiveReading:
    """Numbers of one backward; all on their way to the host in one copy.

    Args:
        graph: The graph that backward is about to run through.
        loss: What backward was called on.
        leftover: 1 where gradients of an earlier step are still there; None if unknown.
    """

    def __init__(self, graph: Walk, loss: torch.Tensor, leftover: torch.Tensor | None = None) -> None:
        self.operation = graph.loss_node.name() if graph.loss_node is not None else ""
        self.output_layer = graph.last.owner.path if graph.last is not None else ""
        self.input_layer = graph.first.owner.path if graph.first is not None else ""
        values: dict[str, torch.Tensor] = {"loss": loss.detach().reshape(())}
        with torch.no_grad(), torch.autocast(loss.device.type, enabled=False):
            if graph.last is not None:
                values |= _output(graph.last)
            if graph.loss_node is not None:
                values |= _targets(graph.loss_node) | _relation(graph, graph.loss_node)
            else:
                written = written_out(loss.grad_fn, graph.last)
                if written is not None:
                    self.operation = written.operation
                    values |= _written(written)
                    values |= relation(graph.entries, written.target)
            if leftover is not None:
                values["leftover"] = leftover.detach()
            if graph.first is not None:
                values |= _inputs(graph.first)
        missing = loss.new_full((), float("nan"), dtype=torch.float64)
        row = [values.get(name, missing).to(loss.device, torch.float64) for name in OBJECTIVE_COLUMNS]
        with torch.no_grad():
            table = _confusion(graph.loss_node) if graph.loss_node is not None else None
            token = _token(graph.first)
        none = missing.new_empty(0)
        tail = [missing.expand(2) if token is None else token, none if table is None else table]
        tail = [part.to(loss.device, torch.float64).flatten() for part in tail]
        self._transfer = Transfer(torch.cat([torch.stack(row), *tail]))

    @property
    def ready(self) -> bool:
        """True once the numbers can be read without a wait."""
        return self._transfer.ready

    @property
    def columns(self) -> NDArray[np.float64]:
        """In the order of ``OBJECTIVE_COLUMNS``, NaN where unknown."""
        return self._transfer.array()[: len(OBJECTIVE_COLUMNS)].astype(np.float64)

    @property
    def token(self) -> tuple[int, float] | None:
        """The most frequent token of the input and its share; None if the input is no tokens."""
        token, share = self._transfer.array()[len(OBJECTIVE_COLUMNS) :][:2].astype(np.float64)
        return None if np.isnan(share) else (int(token), float(share))

    @property
    def table(self) -> NDArray[np.float64] | None:
        """Labels by answers, shape (C, C); None if they were not counted."""
        rest = self._transfer.array()[len(OBJECTIVE_COLUMNS) + 2 :].astype(np.float64)
        classes = math.isqrt(len(rest))
        return rest.reshape(classes, classes) if classes else None


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
    if prediction is None or target is None or not target.numel() or not prediction.numel():
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
    y = y.reshape(y.shape[0], -1) if y.ndim else y.reshape(1, 1)
    if node.name() in _SQUARE_LOSSES:
        values |= _variance(y)
    elif node.name() in _BINARY_LOSSES:
        p = y.mean(0).clamp(1e-12, 1 - 1e-12)
        entropy = -(p * p.log() + (1 - p) * (1 - p).log())
        # B labels look less varied than all of them: by 1 / 2B where both kinds occur (Miller 1955)
        both = (entropy > 1e-9).double() / (2 * y.shape[0])
        values["constant_loss"] = (entropy + both).mean()
        values["compared"] = _number(y.shape[0], y)
    return values


def _relation(graph: Walk, node: Node) -> dict[str, torch.Tensor]:
    """Whether the inputs tell the targets of a loss function."""
    target = saved_tensor(node, "target")
    return {} if target is None else relation(graph.entries, target)


def _variance(y: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the mean of all targets costs: B targets alone vary (B - 1) / B as much about their own."""
    if y.shape[0] < 2:
        return {}
    return {"constant_loss": y.var(0, unbiased=True).mean(), "compared": _number(y.shape[0], y)}


def _written(written: Written) -> dict[str, torch.Tensor]:
    """The same of an error that is written out."""
    values = _spread("prediction", written.prediction) | _spread("target", written.target)
    y = _some(written.target).double()
    values["broadcast"] = _number(float(written.stretched), y)
    if written.operation != "AbsBackward0":
        return values | _variance(y)
    # Not torch.median: on a GPU it raises where the script asks for deterministic algorithms.
    values["constant_loss"] = (y - y.sort(0).values[(len(y) - 1) // 2]).abs().mean()
    values["compared"] = _number(y.shape[0], y)
    return values


def leftover_of(graph: Walk) -> torch.Tensor | None:
    """1 where a gradient is still there before this backward adds to it, 0 if not; None if unknown."""
    if graph.last is None:
        return None
    gradients = [p.grad for p in graph.last.parameters if p.grad is not None]
    beside = graph.last.parameters[0]
    if not gradients:
        return _number(0.0, beside)
    if any(g.layout is not torch.strided for g in gradients):
        return None
    return torch.stack([(g.detach() != 0).any() for g in gradients]).any().double()


def _token(first: Producer | None) -> torch.Tensor | None:
    """The most frequent token of the input; None if the first layer is no embedding."""
    if first is None or first.node.name() != "EmbeddingBackward0":
        return None
    indices = saved_tensor(first.node, "indices")
    return None if indices is None or not indices.numel() else most_frequent(indices)


def _confusion(node: Node) -> torch.Tensor | None:
    """Labels by answers of a small classifier; None where the loss is no such thing."""
    prediction, target = saved_tensor(node, "self"), saved_tensor(node, "target")
    if prediction is None or target is None:
        return None
    if node.name() in _CLASS_LOSSES:
        return confusion.of_classes(prediction, target)
    if node.name() in _THRESHOLDS and target.ndim:
        return confusion.of_binary(prediction, target, _THRESHOLDS[node.name()])
    return None


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
    values["label_mean"] = (p * torch.arange(outputs, device=labels.device)).sum()
    if prediction.ndim == 2:
        values["probability_total"] = _furthest_from_one(_some(prediction).double().exp().sum(1))
    if plain:
        values["constant_loss"] = -(p * p.clamp(min=1e-300).log()).sum()
    values["ignored"] = (labels == ignored).double().mean()
    return values


def _furthest_from_one(totals: torch.Tensor) -> torch.Tensor:
    """Of the samples' sums of probabilities the one that is most wrong."""
    return totals[(totals - 1).abs().argmax()]


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
    # An image varies over its pixels; what is asked is whether one sample differs from another.
    constant = ~(x != x[:1]).amax(axes) if len(x) > 1 else std == 0
    return {
        "input_low": x.min(),
        "input_high": x.max(),
        "input_mean": mean.square().mean().sqrt(),
        "input_std": std.square().mean().sqrt(),
        "input_std_high": std.max(),
        "input_std_low": torch.where(std > 0, std, torch.full_like(std, float("inf"))).min(),
        "input_constant": constant.double().mean(),
        "input_nonfinite": bad,
        "input_features": _number(mean.numel(), x),
        "samples": _number(x.shape[0], x),
    }
