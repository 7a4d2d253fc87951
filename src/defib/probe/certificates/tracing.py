"""A model as a graph of aten operations, for one size of batch.

``make_fx`` runs the user's forward once on fake tensors (shapes without numbers), so that code whose
course depends on the numbers raises instead of being traced for one of its courses; functionalised,
so that nothing is written in place.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from defib.core.errors import UsageError
from defib.probe.calls import module_raised, where_raised


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """What a model is called with, as a list of leaves.

    Attributes:
        leaves: Tensors and other arguments.
        spec: How they are put together again.
        batched: For each leaf, whether its first dimension counts samples.
        samples: How many there are.
    """

    leaves: tuple[Any, ...]
    spec: Any
    batched: tuple[bool, ...]
    samples: int

    @classmethod
    def of(cls, arguments: Sequence[Any], options: Mapping[str, Any]) -> "Inputs":
        """Takes a call apart.

        Returns:
            The inputs.

        Raises:
            UsageError: If there is no tensor among them, or the batch is empty.
        """
        leaves, spec = pytree.tree_flatten((tuple(arguments), dict(options)))
        sizes = [x.shape[0] for x in leaves if isinstance(x, Tensor) and x.dim() > 0]
        if not sizes:
            raise UsageError("the batch holds no tensor whose first dimension counts samples")
        if sizes[0] == 0:
            raise UsageError("the batch holds no sample")
        batched = tuple(isinstance(x, Tensor) and x.dim() > 0 and x.shape[0] == sizes[0] for x in leaves)
        return cls(leaves=tuple(leaves), spec=spec, batched=batched, samples=sizes[0])

    def rows(self, wanted: Tensor) -> tuple[Any, ...]:
        """The leaves with some samples only, by index."""
        return tuple(
            x.detach()[wanted.to(x.device)] if b else x
            for x, b in zip(self.leaves, self.batched, strict=True)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Traced:
    """The graph of a model for one size of batch.

    Attributes:
        graph: Operations in order.
        values: What the placeholders that are no samples hold: parameters, buffers, other arguments.
        names: Full name of each parameter's or buffer's placeholder.
        inputs: Placeholders of samples, in the order of the leaves; None for other leaves.
        outputs: Nodes that the model returns.
        module: Holds tensors that the code made on the way.
    """

    graph: fx.Graph
    values: dict[fx.Node, Any]
    names: dict[fx.Node, str]
    inputs: tuple[fx.Node | None, ...]
    outputs: tuple[fx.Node, ...]
    module: fx.GraphModule

    def signature(self) -> tuple[tuple[str, str], ...]:
        """Operations by name: two sizes of batch have the same where the code does the same."""
        return tuple((n.name, str(n.target)) for n in self.graph.nodes)


def traced(model: nn.Module, inputs: Inputs, leaves: Sequence[Any]) -> Traced:
    """Traces a model in the mode that it is in.

    Args:
        model: The model.
        inputs: How the leaves belong together.
        leaves: Leaves of the size of batch that is wanted.

    Returns:
        The graph.

    Raises:
        UsageError: If the model raises, or does something that no graph can hold.
    """  # noqa: DOC502 - the functions below raise it
    held = dict(model.named_parameters()) | dict(model.named_buffers())
    where = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]
    count = len(held)

    def call(*flat: Tensor) -> list[Tensor]:
        full = list(leaves)
        for i, x in zip(where, flat[count:], strict=True):
            full[i] = x
        arguments, options = pytree.tree_unflatten(full, inputs.spec)
        state = dict(zip(held, flat[:count], strict=True))
        answer = functional_call(model, state, arguments, options)
        return [x for x in pytree.tree_leaves(_plain(answer)) if isinstance(x, Tensor)]

    flat = [t.detach() for t in held.values()] + [leaves[i] for i in where]
    module = _made(call, flat, model)
    _make_pure(module.graph)
    holders = [n for n in module.graph.nodes if n.op == "placeholder"]
    values = dict(zip(holders, flat, strict=True))
    places: dict[int, fx.Node] = dict(zip(where, holders[count:], strict=True))
    batched = [i for i, b in enumerate(inputs.batched) if b]
    for i in batched:
        del values[places[i]]
    returned = next(n for n in module.graph.nodes if n.op == "output").args[0]
    return Traced(
        graph=module.graph,
        values=values,
        names=dict(zip(holders, held, strict=False)),
        inputs=tuple(places[i] if b else None for i, b in enumerate(inputs.batched)),
        outputs=tuple(n for n in pytree.tree_leaves(returned) if isinstance(n, fx.Node)),
        module=module,
    )


def _made(call: Callable[..., Any], flat: list[Tensor], model: nn.Module) -> fx.GraphModule:
    """The traced function; whatever goes wrong is told in one line."""
    try:
        with torch.no_grad(), unfused():
            return make_fx(functionalize(call), tracing_mode="fake", _allow_non_fake_inputs=True)(*flat)
    except Exception as error:
        where = module_raised(error, model)
        places = [f"in layer {where}"] if where else []
        places += [f"at {place}"] if (place := where_raised(error)) else []
        place = f" ({' '.join(places)})" if places else ""
        kind = type(error).__name__
        if "DataDependent" in kind or "Unbacked" in kind or "data-dependent" in str(error):
            raise UsageError(f"nothing can be proved where code depends on the numbers{place}") from error
        said = (str(error).strip().splitlines() or [""])[0]
        raise UsageError(f"the model cannot be traced: {kind}: {said}{place}") from error


def _make_pure(graph: fx.Graph) -> None:
    """Replaces what is still written in place, where nobody else reads what was there before.

    Raises:
        UsageError: If somebody does.
    """
    for node in list(graph.nodes):
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None or not schema.is_mutable:
            continue
        name = named(node)
        written = [
            given
            for given, argument in zip(node.args, schema.arguments, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write and isinstance(given, fx.Node)
        ]
        if name == "copy_" and written[0].op == "placeholder" and not node.users:
            graph.erase_node(node)  # what the model keeps for its next call; no number of this one
            continue
        fresh = all(n.op == "call_function" and len(n.users) == 1 and named(n) not in _VIEWS for n in written)
        if not fresh:
            raise UsageError(f"the model writes in place ({name}) where bounds cannot follow")
        if name.endswith("_"):
            packet = getattr(torch.ops.aten, name.rstrip("_"), None)
            overload = getattr(packet, getattr(node.target, "_overloadname", ""), None)
            if overload is None:
                raise UsageError(f"the model writes in place ({name}) where bounds cannot follow")
            node.target = overload


_VIEWS = {"view", "select", "slice", "expand", "permute", "transpose", "t", "squeeze", "unsqueeze", "alias",
          "detach", "getitem", "as_strided", "diagonal", "unfold", "split", "unbind"}  # fmt: skip


def _plain(answer: Any) -> Any:
    """Outputs of classes that pytree does not know, as a dictionary of their attributes."""
    known = isinstance(answer, (Tensor, list, tuple, dict))
    return answer if known or not hasattr(answer, "__dict__") else dict(vars(answer))


@contextlib.contextmanager
def unfused() -> Iterator[None]:
    """Keeps attention layers in evaluation mode from one fused operation, for which there are no bounds.

    Yields:
        Nothing.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def named(node: fx.Node) -> str:
    """The operation's plain name: "relu" for ``aten.relu.default``; "" for what is no operation."""
    target = node.target
    if node.op != "call_function":
        return ""
    packet = getattr(target, "overloadpacket", None)
    return str(getattr(packet, "__name__", getattr(target, "__name__", "")))


def is_random(node: fx.Node) -> bool:
    """Whether an operation draws random numbers."""
    tags = getattr(node.target, "tags", ())
    if named(node).startswith("_scaled_dot_product"):  # tagged for its dropout
        dropout = node.args[3] if len(node.args) > 3 else node.kwargs.get("dropout_p", 0.0)
        return bool(dropout != 0)
    if named(node) == "rrelu_with_noise":  # in evaluation its slope is the mean one
        return not (len(node.args) < 5 or node.args[4] is False)
    return torch.Tag.nondeterministic_seeded in tags
