"""What a command line names as ``module:factory``: models, batches, losses, made with seeded generators."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from defib.core.errors import NotFound, UsageError

if TYPE_CHECKING:
    import torch


def model(target: str, seed: int) -> "torch.nn.Module":
    """The model that a function without arguments, or a class, gives.

    Args:
        target: ``module:factory``.
        seed: Of all generators before the call.

    Returns:
        The model.

    Raises:
        UsageError: If it gives something else; and what :func:`made` raises.
    """
    import torch

    found = made(target, seed)
    if not isinstance(found, torch.nn.Module):
        raise UsageError(f"{target} gives a {type(found).__name__}, not a torch.nn.Module")
    return found


def batch(target: str, seed: int) -> Any:
    """One batch; the first, if the factory gives a data loader or an iterator."""
    found = made(target, seed)
    several = hasattr(found, "__next__") or type(found).__name__ == "DataLoader"
    return next(iter(found)) if several else found


def loss(target: str | None, seed: int) -> Callable[..., Any] | None:
    """A loss: what a class or a function without parameters gives, or the function itself.

    Args:
        target: ``module:name``; None for none.
        seed: Of all generators before a call.

    Returns:
        Called as ``loss(output, target)``; None for none.

    Raises:
        UsageError: If it cannot be called; and what :func:`made` raises.
    """
    if target is None:
        return None
    found = _named(target)
    given = _called(target, found, seed) if inspect.isclass(found) or not _needs_arguments(found) else found
    if not callable(given):
        raise UsageError(f"{target} gives a {type(given).__name__}, which cannot be called as a loss")
    return given  # type: ignore[no-any-return]


def made(target: str, seed: int) -> Any:
    """What a factory gives; something that cannot be called is taken as it is.

    Args:
        target: ``module:factory``.
        seed: Of all generators before the call.

    Returns:
        Whatever it is.

    Raises:
        NotFound: If there is no such module or name.
        UsageError: If it is not written so, or its code raises.
    """  # noqa: DOC502 - the functions below raise them
    found = _named(target)
    import torch

    if isinstance(found, torch.nn.Module) or not callable(found):
        return found
    return _called(target, found, seed)


def _needs_arguments(function: Any) -> bool:
    """Whether a callable cannot be called without arguments; unknown counts as yes."""
    import torch

    if isinstance(function, torch.nn.Module):
        return True
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return True
    return False


def _called(target: str, factory: Callable[[], Any], seed: int) -> Any:
    """The factory's result, with all generators seeded."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        return factory()
    except Exception as error:
        raise _told(target, error) from error


def _named(target: str) -> Any:
    """The object at ``module:name``; the current folder is looked in first, as ``python -m`` does."""
    module_name, colon, name = target.partition(":")
    if not (module_name and colon and name):
        raise UsageError(f"write module:factory (my_project.nets:make_model), not {target!r}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise NotFound(f"no such module: {module_name}") from None
        raise _told(target, error) from error
    except Exception as error:
        raise _told(target, error) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise NotFound(f"{module_name} has no {name}")
        found = getattr(found, part)
    return found


def _told(target: str, error: Exception) -> UsageError:
    """One line; what makes it imports torch, which a command's help must not."""
    from defib.probe.calls import told

    return told(target, error)
