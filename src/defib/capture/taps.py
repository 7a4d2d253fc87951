"""The only places where defib touches PyTorch.

Two public, global registrations (before and after ``Optimizer.step``), and one
function of ``torch.autograd`` in whose place another stands: ``backward``, for
that is where the loss is, and the graph of just what is being trained. See
``docs/decisions/0002``.

Nothing is stored on a module, parameter, optimiser or tensor. Every entry point
catches what goes wrong inside defib; after three faults a recorder is switched
off and training goes on.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from defib.capture.reading import Reading
from defib.capture.recorder import Recorder

MAX_FAULTS = 3


class Watch:
    """One recorder in service, and what went wrong in it.

    Args:
        recorder: Does the looking.
        on_fault: Told of each fault, with True if it was the last that is suffered.
    """

    def __init__(self, recorder: Recorder, on_fault: Callable[[Exception, bool], None]) -> None:
        self.recorder = recorder
        self.faults = 0
        self._on_fault = on_fault

    def failed(self, error: Exception) -> None:
        """Count a fault of our own; the third takes the recorder out of service."""
        self.faults += 1
        self.recorder.summary.faults = self.faults
        if self.faults >= MAX_FAULTS and self in _watches:
            # The hooks stay until close: torch may be iterating over them right now.
            _watches.remove(self)
        try:
            self._on_fault(error, self.faults >= MAX_FAULTS)
        except Exception:  # noqa: BLE001 - the record may be what is broken
            self._on_fault = lambda _error, _last: None


_watches: list[Watch] = []
_handles: list[Any] = []
_original_backward = torch.autograd.backward


def engage(watch: Watch) -> None:
    """Put a recorder in service."""
    if not _watches:
        _handles.append(register_optimizer_step_pre_hook(_step_begins))
        _handles.append(register_optimizer_step_post_hook(_step_ended))
        torch.autograd.backward = backward
    _watches.append(watch)


def release(watch: Watch) -> None:
    """Take a recorder out of service; with the last one everything is as it was before."""
    if watch in _watches:
        _watches.remove(watch)
    if not _watches:
        for handle in _handles:
            handle.remove()
        _handles.clear()
        if torch.autograd.backward is backward:
            torch.autograd.backward = _original_backward


def _after_fork_in_child() -> None:
    """A forked worker is not the run: it watches nothing."""
    for watch in _watches.copy():
        release(watch)


os.register_at_fork(after_in_child=_after_fork_in_child)


def backward(*args: Any, **kwargs: Any) -> None:
    """``torch.autograd.backward``, with a look at the graph before and after."""
    if torch.compiler.is_compiling() or _traced():
        return _original_backward(*args, **kwargs)
    tensors = args[0] if args else kwargs.get("tensors", ())
    if hasattr(tensors, "__next__"):  # it can be read only once, and torch will want to
        tensors = tuple(tensors)
        args, kwargs = ((tensors, *args[1:]), kwargs) if args else ((), {**kwargs, "tensors": tensors})
    readings = [(watch, _begin(watch, tensors)) for watch in tuple(_watches)]
    try:
        _original_backward(*args, **kwargs)
    except BaseException as error:
        for _, reading in readings:
            if reading is not None:
                reading.done()  # a hook holds its node, and would keep the whole graph alive
        # The user's traceback shows the user's frames and torch's, not this one.
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        raise
    for watch, reading in readings:
        if reading is not None:
            _end(watch, reading)
    return None


def _traced() -> bool:
    """Whether operations do not simply run (make_fx, fake tensors, flop counters, compiled autograd)."""
    # What we did would be traced or counted along with what the user does.
    compiled = sys.modules.get("torch._dynamo.compiled_autograd")
    return torch._C._len_torch_dispatch_stack() > 0 or getattr(compiled, "compiled_autograd_enabled", False)


def _begin(watch: Watch, tensors: Any) -> Reading | None:
    try:
        if isinstance(tensors, torch.Tensor):
            return watch.recorder.backward_begins(() if tensors.is_meta else (tensors,))
        return watch.recorder.backward_begins(
            tuple(t for t in tensors if isinstance(t, torch.Tensor) and not t.is_meta)
        )
    except Exception as error:  # noqa: BLE001
        watch.failed(error)
        return None


def _end(watch: Watch, reading: Reading) -> None:
    try:
        watch.recorder.backward_ended(reading)
    except Exception as error:  # noqa: BLE001
        watch.failed(error)


def _uses_closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """``step(closure)``: the hook's arguments begin with the optimiser itself."""
    return (len(args) > 1 and args[1] is not None) or kwargs.get("closure") is not None


def _step_begins(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return
    for watch in tuple(_watches):
        try:
            watch.recorder.step_begins(optimizer, _uses_closure(args, kwargs))
        except Exception as error:  # noqa: BLE001
            watch.failed(error)


def _step_ended(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return
    for watch in tuple(_watches):
        try:
            watch.recorder.step_ended(optimizer, _uses_closure(args, kwargs))
        except Exception as error:  # noqa: BLE001
            watch.failed(error)
