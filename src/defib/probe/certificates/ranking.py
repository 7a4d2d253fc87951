"""Finds the output layer of a model and its features, for the rank certificate."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from defib.core.certificate import RankCertificate
from defib.probe.certificates.naming import layer_of
from defib.probe.certificates.rank import not_applicable, rank_certificate
from defib.probe.certificates.samples import Sender, pieces
from defib.probe.certificates.tracing import Inputs, Traced, named


def ranked(
    model: nn.Module, trace: Traced, sender: Sender, inputs: Inputs, target: Any,
    loss: Callable[..., Any] | None,
) -> RankCertificate:  # fmt: skip
    """The rank certificate of a batch.

    Args:
        model: The model, in evaluation mode.
        trace: Its graph for a batch.
        sender: Runs that graph.
        inputs: The batch.
        target: What the loss compares the output with.
        loss: The loss, or None.

    Returns:
        The certificate, or why there is none.
    """
    if not isinstance(target, Tensor) or len(target) != inputs.samples:
        return not_applicable("the batch has no target with one row a sample")
    if len(trace.outputs) != 1:
        return not_applicable("the model has more than one output")
    node = trace.outputs[0]
    if named(node) not in {"addmm", "mm"}:
        return not_applicable("the model's output is not that of a Linear layer")
    layer = layer_of(node, trace)
    module = dict(model.named_modules()).get(layer)
    if not isinstance(module, nn.Linear):
        return not_applicable("the model's output is not that of a Linear layer", layer)
    if any(isinstance(m, (nn.Dropout, nn.modules.batchnorm._BatchNorm)) for m in model.modules()):
        return not_applicable("dropout or BatchNorm: training sees other features than evaluation", layer)
    features, outputs = _features(node, sender, inputs)
    return rank_certificate(features, outputs, target.cpu(), loss, layer=layer, bias=module.bias is not None)


def _features(node: fx.Node, sender: Sender, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Inputs and outputs of the output layer for the whole batch."""
    source = node.args[1 if named(node) == "addmm" else 0]
    features: list[Tensor] = []

    def note(at: fx.Node, value: Any) -> Any:
        if at is source:
            features.append(value.detach().cpu())
        return value

    outputs, kept = [], []
    for rows, own in pieces(inputs.samples, sender.samples):
        leaves = inputs.rows(rows)
        sent = sender.send([x for x, b in zip(leaves, inputs.batched, strict=True) if b], change=note)
        outputs.append(sent.outputs[0][:own].cpu())
        kept.append(features[-1][:own])
    return torch.cat(kept), torch.cat(outputs)
