"""Where a non-finite loss came from, read off the graph of the very forward pass that made it."""

from typing import Any

import torch

from defib.capture.naming import Names
from defib.torchgraph.nodes import Node, collect, parameters_below, saved_tensor


def blame(loss: torch.Tensor, names: Names) -> dict[str, Any]:
    """First place in the forward pass that held a NaN or infinity.

    Looks, in order, at the weights (then the update before this step broke
    them), and at every saved tensor from the input on.

    Args:
        loss: The non-finite loss; its graph must still be alive.
        names: Names of parameters.

    Returns:
        "stage": "update", "data", "forward" or "loss"; "where": a parameter or
        layer ("" if unknown); "operation": the autograd node's name.
    """
    if loss.grad_fn is None:
        return {"stage": "loss", "where": "", "operation": ""}
    roots = [loss.grad_fn]
    with torch.no_grad():
        for parameter in parameters_below(roots):
            if _broken(parameter):
                owner = names.owner(parameter)
                return {"stage": "update", "where": owner.name if owner else "", "operation": ""}
        return _first_broken_node(collect(roots), names)


def _first_broken_node(nodes: list[Node], names: Names) -> dict[str, Any]:
    """The earliest node with a broken saved tensor; a broken input that nothing produced is data."""
    layer = ""
    for node in nodes:
        layer = _layer(node, names) or layer
        for field in _saved_fields(node):
            tensor = saved_tensor(node, field)
            if tensor is None or not _broken(tensor):
                continue
            is_input = field not in {"result", "output", "out"}
            first = node.next_functions[0][0] if node.next_functions else None
            if is_input and (first is None or not _differentiable_inputs(node)):
                return {"stage": "data", "where": layer, "operation": node.name()}
            return {"stage": "forward", "where": layer, "operation": node.name()}
    return {"stage": "loss", "where": layer, "operation": nodes[-1].name() if nodes else ""}


def _saved_fields(node: Node) -> list[str]:
    return [name.removeprefix("_raw_saved_") for name in dir(node) if name.startswith("_raw_saved_")]


def _differentiable_inputs(node: Node) -> bool:
    """Whether anything but parameters feeds the node: if not, what it works on came from outside."""
    return any(
        child is not None and getattr(child, "variable", None) is None and child.name() != "TBackward0"
        for child, _ in node.next_functions
    )


def _layer(node: Node, names: Names) -> str | None:
    for child, _ in node.next_functions:
        leaf = getattr(child, "variable", None)
        owner = names.owner(leaf) if leaf is not None else None
        if owner is not None:
            return owner.path
    return None


def _broken(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and not bool(torch.isfinite(tensor.detach()).all())
