"""Sees the torch functions that a model and a loss call, and where in the user's code they are called.

A ``TorchFunctionMode`` looks at calls in Python before autograd does, and so also sees what leaves
no trace in the graph: ``argmax``, ``detach``, ``.item()``. It changes no number. It is used only
here, around one forward pass, and never in training.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from defib.core.errors import UsageError

_TORCH = str(Path(torch.__file__).parent) + os.sep
_DEFIB = str(Path(__file__).parents[1]) + os.sep
_OURS = (_TORCH, _DEFIB)
_CUTTING = {"detach", "item", "numpy", "tolist", "argmax", "argmin", "long", "int", "bool", "data"}
_FLAT = {"sign", "sgn", "round", "floor", "ceil", "trunc", "fix", "heaviside", "floor_divide", "bucketize"}
_MOST = 20_000


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call that matters.

    Attributes:
        name: Name of the function ("mse_loss", "detach").
        where: File and line of the user's code, "net.py:12"; "" if there is none.
        arguments: Positional arguments.
        options: Keyword arguments.
    """

    name: str
    where: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def argument(self, position: int, name: str, default: object = None) -> Any:
        """An argument, however it was given."""
        return self.arguments[position] if len(self.arguments) > position else self.options.get(name, default)


class Calls(TorchFunctionMode):
    """Notes loss functions, softmaxes, subtractions, and what cuts or flattens the gradient.

    Attributes:
        losses: Calls of loss functions and subtractions of two tensors, in order.
        softmaxes: Calls of softmax and log_softmax.
        cuts: Calls that took a tensor with a gradient and gave something without one.
        flats: Calls of functions whose derivative is zero wherever it exists.
    """

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[Call] = []
        self.softmaxes: list[Call] = []
        self.cuts: list[Call] = []
        self.flats: list[Call] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        del types
        options = kwargs or {}
        name = _name(func)
        if name.endswith("_loss") or name.startswith("binary_cross_entropy") or name in _OTHER_LOSSES:
            _note(self.losses, name, args, options)
        elif name in {"softmax", "log_softmax"}:
            _note(self.softmaxes, name, args, options)
        elif name in {"sub", "rsub", "subtract"}:
            _note(self.losses, "subtraction", args, options)
        elif name in _CUTTING and _learns(args):
            _note(self.cuts, name, (), {})
        elif name in _FLAT and _learns(args):
            _note(self.flats, name, (), {})
        result = func(*args, **options)
        if name in {"to", "type"} and _learns(args) and not _learns((result,)):
            _note(self.cuts, f"{name} an integer type", (), {})
        return result


_OTHER_LOSSES = {"cross_entropy", "kl_div", "binary_cross_entropy_with_logits"}


def _name(func: Callable[..., Any]) -> str:
    """The function's plain name; a property ("data") by its own."""
    name = getattr(func, "__name__", "")
    owner = getattr(func, "__self__", None)
    return getattr(owner, "__name__", name) if name == "__get__" else name.strip("_")


def _learns(args: Sequence[Any]) -> bool:
    """Whether the first argument carries a gradient that the user's code means to keep."""
    return torch.is_grad_enabled() and bool(args) and isinstance(args[0], Tensor) and args[0].requires_grad


def _note(into: list[Call], name: str, args: Sequence[Any], options: Mapping[str, Any]) -> None:
    if len(into) < _MOST:
        into.append(Call(name=name, where=where(), arguments=tuple(args), options=dict(options)))


def where(frame: FrameType | None = None) -> str:
    """File and line of the innermost frame that is neither torch's nor ours; "" if there is none."""
    here: FrameType | None = frame or sys._getframe(1)
    while here is not None:
        name = here.f_code.co_filename
        if name.startswith(_DEFIB) and name != __file__:
            return ""  # the user's code runs inside of ours: what lies further out did not call this
        if not name.startswith(_OURS) and not name.startswith("<frozen"):
            return f"{Path(name).name}:{here.f_lineno}"
        here = here.f_back
    return ""


def where_raised(error: BaseException) -> str:
    """File and line where an exception left the user's own code; "" if it never was there."""
    found, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not name.startswith(_OURS):
            found = f"{Path(name).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def told(what: str, error: Exception, layer: str = "") -> UsageError:
    """One line: what raised, what it said, and where in the user's code; in which layer, if that is known."""
    if isinstance(error, UsageError):
        return error
    places = (f"in layer {layer}" if layer else "", f"at {place}" if (place := where_raised(error)) else "")
    where = " ".join(filter(None, places))
    said = (str(error).strip().splitlines() or [""])[0]
    return UsageError(f"{what} raised {type(error).__name__}: {said}" + (f" ({where})" if where else ""))


def module_raised(error: BaseException, model: nn.Module) -> str:
    """Path of the innermost module whose own code an exception passed; "" for none but the root."""
    paths = {id(m): path for path, m in model.named_modules()}
    found, trace = "", error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        found = paths.get(id(owner), found) if isinstance(owner, nn.Module) else found
        trace = trace.tb_next
    return found


@dataclass(frozen=True, kw_only=True)
class Custom:
    """One use of somebody's own ``torch.autograd.Function``.

    Attributes:
        function: Its class.
        arguments: What it was given; tensors are copies.
        where: File and line of the call.
    """

    function: type[torch.autograd.Function]
    arguments: tuple[Any, ...]
    where: str


def _copy(value: object) -> object:
    """A leaf of its own for a tensor; :class:`Calls` does not see this."""
    if not isinstance(value, Tensor):
        return value
    with torch._C.DisableTorchFunction():
        return value.detach().clone().requires_grad_(value.requires_grad)


@contextlib.contextmanager
def custom_functions() -> Iterator[list[Custom]]:
    """Notes the first use of every autograd Function that is not torch's own.

    For as long as this lasts ``Function.apply`` is ours; a graph's node does not keep its inputs,
    so there is no other way to see them. A class with an ``apply`` of its own is not seen.

    Yields:
        The list, filled as the calls come.
    """
    seen: list[Custom] = []
    known: set[type] = set()
    original = torch.autograd.Function.__dict__["apply"]

    def apply(cls: type[torch.autograd.Function], *args: Any, **kwargs: Any) -> Any:
        ours = cls.__module__.partition(".")[0] in {"torch", "functorch"}
        if not ours and cls not in known and not kwargs:
            known.add(cls)
            if any(isinstance(a, Tensor) and a.requires_grad for a in args):
                seen.append(Custom(function=cls, arguments=tuple(map(_copy, args)), where=where()))
        return original.__func__(cls, *args, **kwargs)

    torch.autograd.Function.apply = classmethod(apply)  # type: ignore[method-assign, assignment]
    try:
        yield seen
    finally:
        torch.autograd.Function.apply = original  # type: ignore[method-assign]
