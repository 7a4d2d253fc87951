"""Which layer's units enter an activation, and along which axis they lie."""

from torch import fx

from defib.probe.certificates.steps import Step
from defib.probe.certificates.tracing import Traced, named

_NORMS = {"native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
          "native_layer_norm", "native_group_norm"}  # fmt: skip
_CHANNELS_FIRST = {"convolution", "native_group_norm", *_NORMS} - {"native_layer_norm"}
_SAME_SHAPE = {"add", "sub", "mul", "div", "neg", "clone", "_to_copy", "getitem", "relu", "detach", "alias"}
_FAR = 64


def layer_of(node: fx.Node, trace: Traced) -> str:
    """Path of the layer with weights nearest upstream; a norm only where there is no other; "" for none."""
    seen, level, norm = {node}, [node], ""
    for _ in range(_FAR):
        if not level:
            break
        below: list[fx.Node] = []
        for here in level:
            owner = _owner(here, trace)
            if owner and named(here) not in _NORMS:
                return owner
            norm = norm or owner
            below += [n for n in here.all_input_nodes if n not in seen]
            seen.update(below)
        level = below
    return norm


def unit_axis(node: fx.Node, steps: dict[fx.Node, Step]) -> int:
    """Axis of the units of what enters an activation: channels of a convolution, else the last axis."""
    dims = len(node.meta["val"].shape)
    here = node
    while dims > 2:
        if named(here) in _CHANNELS_FIRST:
            return 1
        above = [n for n in here.all_input_nodes if n in steps or named(n) in _CHANNELS_FIRST]
        same = bool(above) and _shape(above[0]) == _shape(here)
        if not above or not (
            named(here) in _SAME_SHAPE or (named(here) in {"view", "_unsafe_view"} and same)
        ):
            break
        here = above[0]
    return max(dims - 1, 0)


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(getattr(node.meta["val"], "shape", ()))


def _owner(node: fx.Node, trace: Traced) -> str:
    """Path of the module whose parameters an operation takes; "" if it takes none, or only data."""
    if node.op != "call_function":
        return ""
    for argument in node.all_input_nodes:
        here: fx.Node | None = argument
        while here is not None and here not in trace.names:
            inputs = here.all_input_nodes
            here = inputs[0] if len(inputs) == 1 and _is_fixed(inputs[0], trace) else None
        if here is not None:
            return trace.names[here].rpartition(".")[0]
    return ""


def _is_fixed(node: fx.Node, trace: Traced) -> bool:
    """Whether a node holds a parameter, as it is or reshaped."""
    if node in trace.names:
        return True
    inputs = node.all_input_nodes
    return node.op == "call_function" and len(inputs) == 1 and _is_fixed(inputs[0], trace)
