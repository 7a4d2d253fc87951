"""For an autopsy: notes the passes of the modules that train, and the parameters they were made with.

The outermost module that is called with gradients on is noted: a copy of what it was given, the states
of torch's generators, and (if an optimiser has stepped since the last call) a copy of its parameters.
No number is changed, and nothing of the user's is kept but a weak reference to the module.
"""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from defib.capture.album import Album, Frame, Refusal, is_plain, nbytes
from defib.core.kill import Call
from defib.torchgraph.witness import witness

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
_WRAPPERS = {"DistributedDataParallel", "DataParallel"}
"""Modules that only call another one."""


@dataclass(kw_only=True)
class _Open:
    """A pass under way."""

    key: int
    album: Album
    frame: Frame
    arguments: tuple[Any, ...]
    generators: tuple[torch.Tensor, ...]
    autocast: tuple[tuple[str, Any], ...]
    keeper: "_Keeper"


class Camera:
    """Takes the frames.

    Args:
        concerns: Whether a module is one of those that are watched.
        refuse: Told of a :class:`Refusal`, once.

    Attributes:
        albums: By id of the module.
        seconds: Time that the hooks took since this was last set to 0.
    """

    def __init__(
        self, slots: int, concerns: Callable[[nn.Module], bool], refuse: Callable[[str], None]
    ) -> None:
        self.albums: dict[int, Album] = {}
        self.slots = slots
        self.seconds = 0.0
        self.blind = False
        self._concerns, self.refuse = concerns, refuse
        self._open: _Open | None = None
        self._thread = threading.get_ident()
        self._process = os.getpid()

    def clear(self) -> None:
        """Forget everything."""
        self.albums.clear()
        self._open = None

    def settle(self) -> None:
        """No pass is under way: one that raised was never left."""
        self._open = None

    def enter(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        """A module is called."""
        if (self._open is not None and self._open.key != id(module)) or self.blind or not _in_training():
            return
        if threading.get_ident() != self._thread or os.getpid() != self._process:
            return
        start = perf_counter()
        album = self._album(module)
        if album is not None:
            with torch.no_grad():
                frame = album.look()
                keeper = _Keeper()
                kept = keeper.keep(arguments)
            self._open = _Open(
                key=id(module),
                album=album,
                frame=frame,
                arguments=kept,
                generators=_generators(),
                autocast=_autocast(),
                keeper=keeper,
            )
        self.seconds += perf_counter() - start

    def leave(self, module: nn.Module, options: Mapping[str, Any], output: Any) -> None:
        """It has returned."""
        under_way = self._open
        if under_way is None or under_way.key != id(module) or threading.get_ident() != self._thread:
            return
        start = perf_counter()
        self._open = None
        keeper = under_way.keeper
        with torch.no_grad():
            kept = keeper.keep(dict(options)) if options else {}
            seen = witness(output)
        under_way.frame.calls.append(
            Call(
                arguments=under_way.arguments,
                options=kept,
                generators=under_way.generators,
                autocast=under_way.autocast,
                outside=keeper.computed,
                witness=seen,
            )
        )
        under_way.frame.size += keeper.size
        self.seconds += perf_counter() - start

    def _album(self, module: nn.Module) -> Album | None:
        found = self.albums.get(id(module))
        if found is not None and found.module is module:
            return found
        if type(module).__name__ in _WRAPPERS or not self._concerns(module):
            return None
        if type(module).__name__ == "OptimizedModule":
            raise Refusal("the model is compiled: its calls cannot be made again layer by layer")
        if any(nn.parameter.is_lazy(p) for p in module.parameters()):
            return None
        if _is_one_of_several():
            raise Refusal("a job of several ranks: one of them cannot run the model alone")
        self.albums[id(module)] = Album(module, self.slots)
        return self.albums[id(module)]


def _is_one_of_several() -> bool:
    jobs = torch.distributed
    return jobs.is_available() and jobs.is_initialized() and jobs.get_world_size() > 1


def _in_training() -> bool:
    """Plain execution with gradients on: no tracing, no recomputation inside a backward, no functorch."""
    return (
        torch.is_grad_enabled()
        and torch._C._get_tracing_state() is None
        and torch._C._current_graph_task_id() == -1
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
    )


class _Keeper:
    """Copies what a pass is given.

    Attributes:
        size: Bytes of all copies.
        computed: Some tensor came out of other modules, with a gradient.
    """

    def __init__(self) -> None:
        self.size = 0
        self.computed = False

    def keep(self, values: Any) -> Any:
        """The same with copies for tensors, through nested containers."""
        if type(values) is tuple:  # the usual case, without pytree's price
            return tuple(map(self.keep, values))
        if isinstance(values, torch.Tensor):
            return self._leaf(values)
        return pytree.tree_map(self._leaf, values)

    def _leaf(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if not is_plain(value):
                raise Refusal(f"the model is given a {type(value).__name__} that cannot be kept")
            self.size += nbytes(value)
            self.computed = self.computed or value.grad_fn is not None
            return value.detach().clone().requires_grad_(value.requires_grad)
        if isinstance(value, _PLAIN) or (isinstance(value, tuple | list | dict) and not value):
            return value
        raise Refusal(f"the model is given a {type(value).__name__}, which cannot be kept for later")


def _generators() -> tuple[torch.Tensor, ...]:
    accelerators = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return (torch.get_rng_state(), *accelerators)


def _autocast() -> tuple[tuple[str, Any], ...]:
    devices = ("cpu", "cuda")
    return tuple((d, torch.get_autocast_dtype(d)) for d in devices if torch.is_autocast_enabled(d))
