"""Parameters that no module owns: a net written by hand from tensors.

The user's variables name them. A matrix and the vector that is added to its product
make one layer: the next vector in the optimiser's order whose length is one of the
matrix's outer axes.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch

_DEPTH = 32
_LONGEST = 10_000
"""Longest container that is looked into for names."""


@dataclass(frozen=True, kw_only=True)
class Bare:
    """One layer of such a net.

    Attributes:
        path: What it is called: the variable of its weight.
        weight: The matrix, or a kernel.
        bias: The vector added to it; None without one.
        names: The variable of each of them.
        units: Length of the unit axis.
        transposed: Units lie along the last axis of the weight (``x @ w``), not the first.
    """

    path: str
    weight: torch.Tensor
    bias: torch.Tensor | None
    names: tuple[str, ...]
    units: int
    transposed: bool

    @property
    def fields(self) -> dict[str, torch.Tensor]:
        """Its tensors, as a module would call them."""
        return {"weight": self.weight} | ({} if self.bias is None else {"bias": self.bias})


def bare_layers(parameters: Sequence[torch.Tensor], taken: Iterable[str]) -> Iterator[Bare]:
    """The layers that these tensors make.

    Args:
        parameters: Tensors that no module owns, in the optimiser's order.
        taken: Paths that others have.

    Yields:
        One for each weight of two axes or more. A vector that belongs to none makes no layer: nothing
        tells a gain from a whole model that somebody flattened.
    """
    if not any(p.ndim > 1 for p in parameters):
        return
    names = _variables(parameters)
    used = set(taken)
    vectors = [p for p in parameters if p.ndim == 1]
    for position, weight in enumerate(parameters):
        if weight.ndim < 2:
            continue
        path = names.get(id(weight), f"parameter[{position}]")
        while path in used:
            path += "_"
        used.add(path)
        bias = _bias(weight, vectors)
        vectors = [v for v in vectors if v is not bias]
        units, transposed = _units(weight, bias)
        told = (path,) if bias is None else (path, names.get(id(bias), f"{path}.bias"))
        yield Bare(path=path, weight=weight, bias=bias, names=told, units=units, transposed=transposed)


def _bias(weight: torch.Tensor, vectors: list[torch.Tensor]) -> torch.Tensor | None:
    """The first vector left whose length is that of an outer axis, the last axis before the first."""
    for axis in (-1, 0) if weight.ndim == 2 else (0,):
        found = next((v for v in vectors if len(v) == weight.shape[axis]), None)
        if found is not None:
            return found
    return None


def _units(weight: torch.Tensor, bias: torch.Tensor | None) -> tuple[int, bool]:
    """Units, and whether they lie along the last axis."""
    last = weight.ndim == 2 and (bias is None or len(bias) == weight.shape[-1])
    return int(weight.shape[-1 if last else 0]), last


def _variables(parameters: Sequence[torch.Tensor]) -> dict[int, str]:
    """What the user's code calls each: a variable, or its place in a list or dictionary."""
    wanted = {id(p) for p in parameters}
    found: dict[int, str] = {}
    inside: dict[int, str] = {}
    for variables in _scopes(sys._getframe(1)):
        for name, value in variables.items():
            if name.startswith("_"):
                continue
            if id(value) in wanted:
                found.setdefault(id(value), name)
            elif isinstance(value, (list, tuple, dict)) and len(value) <= _LONGEST:
                for place, item in _items(value):
                    if id(item) in wanted:
                        inside.setdefault(id(item), f"{name}{place}")
    return inside | found


def _scopes(frame: FrameType | None) -> Iterator[dict[str, Any]]:
    """The variables of the calling functions, the innermost first, then the script's own."""
    for _ in range(_DEPTH):
        if frame is None:
            break
        if not str(frame.f_globals.get("__name__", "")).startswith(("torch.", "defib.")):
            yield dict(frame.f_locals)
        frame = frame.f_back
    yield dict(vars(sys.modules["__main__"]))


def _items(value: "list[Any] | tuple[Any, ...] | dict[Any, Any]") -> Iterator[tuple[str, Any]]:
    """What a container holds, each with the brackets that reach it."""
    if isinstance(value, dict):
        yield from (
            (f".{key}" if isinstance(key, str) else f"[{key!r:.40}]", item) for key, item in value.items()
        )
    else:
        yield from ((f"[{place}]", item) for place, item in enumerate(value))
