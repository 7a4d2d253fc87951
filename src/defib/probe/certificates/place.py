"""A node of the graph with what is fixed around it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from defib.probe.certificates.tracing import named

Function = Callable[..., Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """A node with what is fixed around it.

    Attributes:
        node: The operation.
        values: What fixed nodes hold, in the model's format.
        varying: Nodes that depend on the input.
        dtype: Format of its result.
        shape: Shape of its result.
        item: Which of several results is meant.
    """

    node: fx.Node
    values: Mapping[fx.Node, Any]
    varying: frozenset[fx.Node]
    dtype: torch.dtype
    shape: tuple[int, ...]
    item: int | None = None

    @property
    def name(self) -> str:
        """The operation's plain name."""
        return named(self.node)

    @property
    def parents(self) -> tuple[fx.Node, ...]:
        """Arguments that depend on the input, in order, each once."""
        found = [a for a in pytree.tree_leaves((self.node.args, self.node.kwargs)) if a in self.varying]
        return tuple(dict.fromkeys(found))

    def argument(self, position: int, name: str = "", default: Any = None) -> Any:
        """An argument; a fixed node's value in float64 if it is a tensor of numbers."""
        args = self.node.args
        given: Any = args[position] if len(args) > position else self.node.kwargs.get(name, default)
        if isinstance(given, fx.Node) and given not in self.varying:
            given = self.values[given]
        return given.detach().to("cpu", torch.float64) if _is_real(given) else given

    def function(self) -> Function:
        """The operation as a function of its parents alone, in float64."""
        parents = self.parents
        values, item, target = self.values, self.item, self.node.target
        assert callable(target)
        if self.name in {"view", "_unsafe_view"}:
            target = torch.ops.aten.reshape.default  # the strides of our numbers are not the model's

        def call(*given: Tensor) -> Any:
            at = dict(zip(parents, given, strict=True))

            def filled(x: Any) -> Any:
                if not isinstance(x, fx.Node):
                    return x
                value = at[x] if x in at else values[x]
                return value.to("cpu", torch.float64) if _is_real(value) and x not in at else _home(value)

            options = {k: v for k, v in self.node.kwargs.items() if k != "dtype"}
            args, kwargs = pytree.tree_map(filled, (self.node.args, options))
            answer = target(*args, **kwargs)
            return answer if item is None else answer[item]

        return call


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _home(value: Any) -> Any:
    return value.cpu() if isinstance(value, Tensor) else value
