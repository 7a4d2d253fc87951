"""Single nodes of the autograd graph: which there are, and what each of them keeps."""

from functools import cache
from typing import Any

import torch

Node = Any
"""A ``torch.autograd.graph.Node``; its attributes differ from operation to operation."""

CASTS = {
    "TBackward0",
    "TransposeBackward0",
    "PermuteBackward0",
    "ToCopyBackward0",
    "ViewBackward0",
    "UnsafeViewBackward0",
    "ReshapeAliasBackward0",
    "ExpandBackward0",
    "CloneBackward0",
    "AliasBackward0",
    "UnsqueezeBackward0",
    "SqueezeBackward1",
}
"""Operations through which a parameter is still that parameter."""

_MAX_NODES = 200_000


def collect(roots: list[Node]) -> list[Node]:
    """All nodes but leaves, producers before consumers."""
    seen: set[Node] = set(roots)
    stack = list(roots)
    while stack and len(seen) < _MAX_NODES:
        for child, _ in stack.pop().next_functions:
            if child is not None and child not in seen and getattr(child, "variable", None) is None:
                seen.add(child)
                stack.append(child)
    return sorted(seen, key=lambda node: int(node._sequence_nr()))


def parameters_below(roots: list[Node]) -> list[torch.Tensor]:
    """Every leaf that the graph reaches, each once."""
    leaves: dict[int, torch.Tensor] = {}
    for node in collect(roots):
        for child, _ in node.next_functions:
            leaf = getattr(child, "variable", None) if child is not None else None
            if leaf is not None:
                leaves[id(leaf)] = leaf
    return list(leaves.values())


def parameter_of(node: Node) -> torch.Tensor | None:
    """The leaf behind an edge, seen through casts and changes of shape; None if there is none."""
    for _ in range(6):
        variable = getattr(node, "variable", None)
        if variable is not None:
            leaf: torch.Tensor = variable
            return leaf
        children = [child for child, _ in node.next_functions if child is not None]
        if len(children) != 1 or node.name() not in CASTS:
            return None
        node = children[0]
    return None


def options(node: Node) -> dict[str, float]:
    """The constants that a node keeps ("negative_slope": 0.01); a word ("tanh") counts as 1."""
    values = {name: getattr(node, f"_saved_{name}") for name in _constants(node.__class__)}
    found = {name: float(v) for name, v in values.items() if type(v) in {int, float}}
    return found | {v: 1.0 for v in values.values() if type(v) is str and v != "none"}


@cache
def _constants(kind: type) -> tuple[str, ...]:
    """Names of a node type's saved constants: a saved tensor has a ``_raw`` twin and is not touched here."""
    saved = {name.removeprefix("_saved_") for name in dir(kind) if name.startswith("_saved_")}
    tensors = {name.removeprefix("_raw_saved_") for name in dir(kind) if name.startswith("_raw_saved_")}
    return tuple(sorted(saved - tensors))


def saved_tensor(node: Node, which: str) -> torch.Tensor | None:
    """A saved tensor, unless reading it would call somebody's unpack hook (checkpoint, offload)."""
    raw = getattr(node, f"_raw_saved_{which}", None)
    if raw is None or getattr(raw, "unpack_hook", None) is not None:
        return None
    try:
        tensor = raw.data
    except (RuntimeError, AttributeError):  # freed, or overwritten in place: the user's backward will say so
        return None
    return tensor.detach() if isinstance(tensor, torch.Tensor) else None
