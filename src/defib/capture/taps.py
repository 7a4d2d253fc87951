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

# On a step without a reading all of this runs from cold caches, in which a look into torch's large
# modules costs as much as a call: so they are looked into once.
_Tensor = torch.Tensor
_is_compiling = torch.compiler.is_compiling
_dispatch_modes = torch._C._len_torch_dispatch_stack
_modules = sys.modules
# While a CUDA graph is captured, what we did would be replayed with it, or break it off. To ask may make a
# context on the GPU, so that is done only once the script has made one.
_cuda = torch.cuda
_is_capturing = torch.cuda.is_current_stream_capturing


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
        if self.faults >= MAX_FAULTS:
            # The hooks stay until close: torch may be iterating over them right now.
            _without(self)
        try:
            self._on_fault(error, self.faults >= MAX_FAULTS)
        except Exception:  # noqa: BLE001 - the record may be what is broken
            self._on_fault = lambda _error, _last: None


_watches: list[Watch] = []  # never changed, only replaced: it may be walked through meanwhile
_handles: list[Any] = []
_ending = False  # a recorder has something to do after this step
_original_backward = torch.autograd.backward


def engage(watch: Watch) -> None:
    """Put a recorder in service."""
    global _watches  # noqa: PLW0603
    if not _watches:
        _handles.append(register_optimizer_step_pre_hook(_step_begins))
        _handles.append(register_optimizer_step_post_hook(_step_ended))
        torch.autograd.backward = backward
    _watches = [*_watches, watch]


def _without(watch: Watch) -> None:
    global _watches  # noqa: PLW0603
    _watches = [other for other in _watches if other is not watch]


def release(watch: Watch) -> None:
    """Take a recorder out of service; with the last one everything is as it was before."""
    _without(watch)
    if not _watches:
        for handle in _handles:
            handle.remove()
        _handles.clear()
        if torch.autograd.backward is backward:
            torch.autograd.backward = _original_backward


def _after_fork_in_child() -> None:
    """A forked worker is not the run: it watches nothing."""
    for watch in _watches:
        release(watch)


os.register_at_fork(after_in_child=_after_fork_in_child)


def backward(*args: Any, **kwargs: Any) -> None:
    """``torch.autograd.backward``, with a look at the graph before and after."""
    # Operations that do not simply run (make_fx, fake tensors, flop counters, compiled autograd): what
    # we did would be traced or counted along with what the user does.
    compiled = _modules.get("torch._dynamo.compiled_autograd")
    if (
        _is_compiling()
        or _dispatch_modes()
        or (compiled is not None and getattr(compiled, "compiled_autograd_enabled", False))
        or (_cuda._initialized and _is_capturing())
    ):
        return _original_backward(*args, **kwargs)
    tensors = args[0] if args else kwargs.get("tensors", ())
    if not isinstance(tensors, _Tensor) and hasattr(tensors, "__next__"):
        tensors = tuple(tensors)  # it can be read only once, and torch will want to
        args, kwargs = ((tensors, *args[1:]), kwargs) if args else ((), {**kwargs, "tensors": tensors})
    readings: list[tuple[Watch, Reading]] = []
    for watch in _watches:
        try:
            reading = watch.recorder.backward_begins(_with_data(tensors))
        except Exception as error:  # noqa: BLE001
            watch.failed(error)
        else:
            if reading is not None:
                readings.append((watch, reading))
    try:
        _original_backward(*args, **kwargs)
    except BaseException as error:
        for _, reading in readings:
            reading.done()  # a hook holds its node, and would keep the whole graph alive
        # The user's traceback shows the user's frames and torch's, not this one.
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        raise
    for watch, reading in readings:
        try:
            watch.recorder.backward_ended(reading)
        except Exception as error:  # noqa: BLE001
            watch.failed(error)
    return None


def _with_data(tensors: Any) -> tuple[torch.Tensor, ...]:
    """What ``backward`` was called on, without what has no entries."""
    if isinstance(tensors, _Tensor):
        return () if tensors.is_meta else (tensors,)
    return tuple(t for t in tensors if isinstance(t, _Tensor) and not t.is_meta)


def _uses_closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """``step(closure)``: the hook's arguments begin with the optimiser itself."""
    return (len(args) > 1 and args[1] is not None) or kwargs.get("closure") is not None


def _step_begins(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    global _ending  # noqa: PLW0603
    if _is_compiling() or _dispatch_modes() or (_cuda._initialized and _is_capturing()):
        return
    _ending = False
    closure = _uses_closure(args, kwargs) if kwargs or len(args) > 1 else False
    for watch in _watches:
        begins: Callable[[torch.optim.Optimizer, bool], bool | None] = watch.recorder.step_begins
        try:
            if begins(optimizer, closure) is not False:
                _ending = True
        except Exception as error:  # noqa: BLE001
            watch.failed(error)
            _ending = True


def _step_ended(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    # Most steps are concluded before they are taken. A traced step may read this: outside of one it is False.
    if not _ending or _is_compiling() or _dispatch_modes() or (_cuda._initialized and _is_capturing()):
        return
    for watch in _watches:
        try:
            watch.recorder.step_ended(optimizer, _uses_closure(args, kwargs))
        except Exception as error:  # noqa: BLE001
            watch.failed(error)
