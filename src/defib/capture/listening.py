"""For an autopsy: hooks on the calls of modules, there while an autopsy is on and only then.

A global module hook makes ``torch.compile`` warn and would be compiled in (decision 0002); so for as
long as these are there a function stands in the place of ``torch.compile`` that takes them away first.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.modules import module as hooks


class Listener(Protocol):
    """Who is called by the hooks; never raises."""

    def entered(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        """A module is called."""

    def left(self, module: nn.Module, options: Mapping[str, Any], output: Any) -> None:
        """It has returned."""

    def stop(self, why: str) -> None:
        """Take the hooks away, now and for good."""


_listeners: list[Listener] = []
_handles: list[Any] = []
_original_compile = torch.compile


def engage(listener: Listener) -> None:
    """Listen to the calls of modules."""
    if not _listeners:
        _handles.append(hooks.register_module_forward_pre_hook(_entered))
        _handles.append(hooks.register_module_forward_hook(_left, with_kwargs=True))
        torch.compile = _compile
    _listeners.append(listener)


def release(listener: Listener) -> None:
    """Stop listening; with the last listener everything is as it was before."""
    if listener in _listeners:
        _listeners.remove(listener)
    if not _listeners:
        for handle in _handles:
            handle.remove()
            hooks._global_forward_hooks_with_kwargs.pop(handle.id, None)  # torch leaves it there
        _handles.clear()
        if torch.compile is _compile:
            torch.compile = _original_compile


def _entered(module: nn.Module, arguments: tuple[Any, ...]) -> None:
    if torch.compiler.is_compiling():
        return
    for listener in tuple(_listeners):
        listener.entered(module, arguments)


def _left(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
    del arguments
    if torch.compiler.is_compiling():
        return
    for listener in tuple(_listeners):
        listener.left(module, options, output)


def _compile(*args: Any, **kwargs: Any) -> Any:
    """``torch.compile``, after every listener has gone."""
    for listener in tuple(_listeners):
        listener.stop("torch.compile is used: compiled passes cannot be made again layer by layer")
    return _original_compile(*args, **kwargs)
