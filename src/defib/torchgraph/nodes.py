"""Single nodes of the autograd graph: which there are, what each of them is, and what it keeps."""

from functools import cache
from typing import Any

import torch

from defib.core.activation import Activation
from defib.core.activation_index import activation_of

Node = Any
"""A ``torch.autograd.graph.Node``; its attributes differ from operation to operation."""

CASTS = frozenset({
    "TBackward0",
    "TransposeBackward0",
    "TransposeBackward1",
    "PermuteBackward0",
    "ToCopyBackward0",
    "ViewBackward0",
    "UnsafeViewBackward0",
    "ReshapeAliasBackward0",
    "ExpandBackward0",
    "CloneBackward0",
    "AliasBackward0",
    "UnsqueezeBackward0",
    "SqueezeBackward0",
    "SqueezeBackward1",
    "SqueezeBackward2",
})  # fmt: skip
"""Operations through which a tensor is still that tensor, in another shape or format."""

PIECES = frozenset({
    "SplitBackward0",
    "SplitWithSizesBackward0",
    "UnsafeSplitBackward0",
    "ChunkBackward0",
    "SelectBackward0",
    "SliceBackward0",
    "UnbindBackward0",
})  # fmt: skip
"""Operations that take a piece out of a tensor; a piece of a parameter is a parameter too."""

NORMS = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RmsNorm", "RMSNorm")
"""Parts of the names of nodes that normalise."""

RECURRENT = frozenset({"MkldnnRnnLayerBackward0", "CudnnRnnBackward0", "MiopenRnnBackward0"})
"""Fused recurrent kernels: all time steps in one node."""

FUSED_ATTENTION = "ScaledDotProduct"
"""Part of the names of nodes that compute softmax(q k^T) v at once."""

SOFTMAXES = frozenset({"SoftmaxBackward0", "SafeSoftmaxBackward0", "MaskedSoftmaxBackward0"})
"""Nodes that make rows of shares out of rows of scores."""

NOT_ELEMENTWISE = frozenset({"softmax", "log_softmax"})
"""Activations whose outputs depend on several inputs."""

_MAX_NODES = 200_000


def is_leaf(node: Node) -> bool:
    """Whether it accumulates the gradient of a leaf tensor."""
    return getattr(node, "variable", None) is not None


def collect(roots: list[Node]) -> list[Node]:
    """All nodes but leaves, producers before consumers."""
    seen: set[Node] = set(roots)
    stack = list(roots)
    while stack and len(seen) < _MAX_NODES:
        for child, _ in stack.pop().next_functions:
            if child is not None and child not in seen and not is_leaf(child):
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


def parameter_of(node: Node | None) -> torch.Tensor | None:
    """The leaf behind an edge, seen through changes of shape and format; None if there is none."""
    for _ in range(6):
        if node is None:
            return None
        leaf: torch.Tensor | None = getattr(node, "variable", None)
        if leaf is not None:
            return leaf
        node = _only_child(node) if node.name() in CASTS else None
    return None


def piece_of(node: Node | None, output: int) -> tuple[torch.Tensor, str] | None:
    """The same, seen through :data:`PIECES` too: packed weights are split where they are used.

    Args:
        node: Where an edge leads to.
        output: Which of the node's outputs it carries.

    Returns:
        The leaf, and a word for the piece of it ("" for all of it); None if there is none.
    """
    piece = ""
    for _ in range(8):
        if node is None:
            return None
        leaf: torch.Tensor | None = getattr(node, "variable", None)
        if leaf is not None:
            return leaf, piece
        name = node.name()
        if name in PIECES:
            piece += f"{name}:{output}:{sorted(options(node).items())};"
        elif name not in CASTS:
            return None
        output = next((k for c, k in node.next_functions if c is not None), 0)
        node = _only_child(node)
    return None


def _only_child(node: Node) -> Node | None:
    children = [child for child, _ in node.next_functions if child is not None]
    return children[0] if len(children) == 1 else None


def activation_at(node: Node) -> Activation | None:
    """The activation that a node computes; None if it computes none."""
    return activation_of(node.name(), options(node))


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


def time_steps(node: Node) -> int:
    """How many steps of time a fused recurrent kernel runs; 1 for any other node."""
    if node.name() not in RECURRENT:
        return 1
    shape = tuple(node._input_metadata[0].shape)  # of what it gives: the gradient's input
    time_first = node.name().startswith("Mkldnn") or not getattr(node, "_saved_batch_first", False)
    return int(shape[0 if time_first else 1])


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
