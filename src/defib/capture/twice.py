"""Whether a user's graph can be run through several times without anybody noticing.

A backward pass of our own through the user's graph must not run the user's code: hooks, functions with
a backward of their own (checkpoints, data-parallel layers and compiled regions are such), and hooks that
pack what the graph keeps. Hooks on nodes and packed tensors are seen on the nodes. A hook on a tensor
cannot be seen there once the tensor itself is gone, so while curvature is measured, and only then,
two methods of ``torch.Tensor`` note that they were called (:func:`engage`).
"""

from typing import Any

import torch
from torch.autograd.function import BackwardCFunction

from defib.torchgraph.nodes import Node

_HALF = (torch.float16, torch.bfloat16)
_original_hook = torch.Tensor.register_hook
_original_retain = torch.Tensor.retain_grad
_engaged: dict[int, bool] = {}
"""Who listens, by id, and whether a hook was put on a tensor since."""


def engage(who: object) -> None:
    """Note from now on that hooks are put on tensors."""
    if not _engaged:
        torch.Tensor.register_hook = _register_hook  # type: ignore[method-assign]
        torch.Tensor.retain_grad = _retain_grad  # type: ignore[method-assign,assignment]
    _engaged[id(who)] = False


def release(who: object) -> None:
    """Stop; with the last one everything is as it was before."""
    _engaged.pop(id(who), None)
    if _engaged:
        return
    if torch.Tensor.register_hook is _register_hook:
        torch.Tensor.register_hook = _original_hook  # type: ignore[method-assign]
    if torch.Tensor.__dict__.get("retain_grad") is _retain_grad:
        del torch.Tensor.retain_grad  # it belongs to the class above


def _register_hook(self: torch.Tensor, hook: Any) -> Any:
    """``Tensor.register_hook``."""
    _note(self)
    return _original_hook(self, hook)  # type: ignore[no-untyped-call]


def _retain_grad(self: torch.Tensor) -> None:
    """``Tensor.retain_grad``."""
    _note(self)
    return _original_retain(self)


def _note(tensor: torch.Tensor) -> None:
    if not torch.compiler.is_compiling() and not tensor.is_leaf:
        _engaged.update(dict.fromkeys(_engaged, True))


def objection(who: object, loss: torch.Tensor, leaves: list[torch.Tensor], nodes: list[Node]) -> str:
    """Why this graph is better left alone.

    Args:
        who: Who listens.
        loss: What backward was called on.
        leaves: The parameters that would be asked for.
        nodes: All nodes of the graph but the leaves.

    Returns:
        The reason in one line; "" if there is none.
    """
    around = _of_surroundings(loss) or _of_leaves(leaves)
    if around:
        return around
    if _engaged.get(id(who), True):
        return "the script puts hooks on tensors, and a second backward would call them"
    return next((reason for reason in map(_of_node, nodes) if reason), "")


def _of_surroundings(loss: torch.Tensor) -> str:
    if torch.is_anomaly_enabled():
        return "anomaly detection is on"
    if torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
        return "the script packs what the graph keeps (saved_tensors_hooks)"
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return "several processes average their gradients: one batch's curvature is not that of the step"
    if loss.is_cuda and torch.cuda.is_current_stream_capturing():
        return "a CUDA graph is being captured"
    return ""


def _of_leaves(leaves: list[torch.Tensor]) -> str:
    if any(type(leaf) not in {torch.Tensor, torch.nn.Parameter} for leaf in leaves):
        return "the parameters are no plain tensors"
    if len({leaf.device for leaf in leaves}) > 1:
        return "the parameters lie on several devices"
    if any(leaf.dtype in _HALF for leaf in leaves):
        return "the parameters are in half precision: second derivatives would be rounded away"
    if not all(leaf.is_floating_point() and leaf.is_leaf for leaf in leaves):
        return "the parameters are no plain floating-point leaves"
    if any(leaf._backward_hooks for leaf in leaves):
        return "the script has hooks on parameters, and a second backward would call them"
    return ""


def _of_node(node: Node) -> str:
    if isinstance(node, BackwardCFunction):
        kind = type(node).__name__
        return f"{kind} has a backward of its own (checkpoint, compiled, hand-written), run once only"
    if _has_hooks(node):
        return "the script has hooks in the graph, and a second backward would call them"
    if any(getattr(raw, "unpack_hook", None) is not None for raw in _kept(node)):
        return "what the graph keeps is packed by hooks (checkpoint, offload)"
    if any(about.dtype in _HALF for about in node._input_metadata):
        return "it runs in half precision: second derivatives would be rounded away"
    return ""


def _has_hooks(node: Node) -> bool:
    """Whether anybody has registered a hook on a node: all of them are in one dictionary each."""
    for register in (node.register_hook, node.register_prehook):
        handle = register(_nothing)
        hooks = handle.hooks_dict_ref()
        others = hooks is not None and len(hooks) > 1
        handle.remove()
        if others:
            return True
    return False


def _nothing(*_gradients: object) -> None:
    """A hook that is taken off again at once."""


def _kept(node: Node) -> list[Any]:
    """What a node keeps, unread."""
    found: list[Any] = []
    for name in _names(type(node)):
        raw = getattr(node, name)
        found += raw if isinstance(raw, (tuple, list)) else [raw]
    return found


def _names(kind: type) -> tuple[str, ...]:
    if kind not in _known:
        _known[kind] = tuple(name for name in dir(kind) if name.startswith("_raw_saved_"))
    return _known[kind]


_known: dict[type, tuple[str, ...]] = {}


def kept_bytes(nodes: list[Node]) -> int:
    """Bytes that a graph keeps, each storage once."""
    held: dict[int, int] = {}
    for node in nodes:
        for raw in _kept(node):
            try:
                tensor = raw.data
            except (RuntimeError, AttributeError):  # freed, or overwritten: backward will say so
                continue
            if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided:
                storage = tensor.untyped_storage()
                held[storage.data_ptr()] = storage.nbytes()
    return sum(held.values())
