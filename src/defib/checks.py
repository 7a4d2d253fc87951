"""Where the probe meets the user: the check of a model before training, and the triage of a standstill."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from defib.core.errors import NotFound, UsageError

if TYPE_CHECKING:
    import torch

    from defib.core.checkup import Checkup
    from defib.probe.triage import Triaged


def check(model: "torch.nn.Module", batch: object, loss: Callable[..., Any] | None = None) -> "Checkup":
    """Looks at a model, its loss and one batch before any training; nothing is changed by a bit.

    One forward and one backward pass are made and no step is taken. The model is looked at in the
    mode (training or evaluation) that it is in.

    Args:
        model: The model.
        batch: ``(input, target)``, ``(input, ..., target)``, a dictionary of the model's keyword
            arguments, or an input alone (an autoencoder's).
        loss: Called as ``loss(output, target)``; None for the model's own (``output.loss``), else
            cross-entropy for whole-numbered targets and mean squared error for others.

    Returns:
        Verdict, findings, layers and gain ledger.

    Raises:
        UsageError: If the model or the loss raises, or there is nothing to check.
    """  # noqa: DOC502 - the probe raises it
    from defib.probe.checkup import check_up

    return check_up(model, batch, loss)


def check_named(model: str, batch: str, loss: str | None = None, seed: int = 0) -> "Checkup":
    """The same, with everything named as ``module:factory`` as on the command line.

    Args:
        model: Where a function without arguments, or a class, gives the model.
        batch: Where one gives the batch.
        loss: Where a loss is: a class or a function without arguments that gives it, or the loss
            itself.
        seed: For torch, numpy and Python, before each of the factories is called.

    Returns:
        What :func:`check` returns.

    Raises:
        NotFound: If a module or a name in it does not exist.
        UsageError: If a name is not written so, or its code raises.
    """  # noqa: DOC502 - the functions below raise them
    import torch

    made = _made(model, seed)
    if not isinstance(made, torch.nn.Module):
        raise UsageError(f"{model} gives a {type(made).__name__}, not a torch.nn.Module")
    data = _made(batch, seed)
    if hasattr(data, "__next__") or type(data).__name__ == "DataLoader":
        data = next(iter(data))
    return check(made, data, None if loss is None else _loss(loss, seed))


def triage(
    model: "torch.nn.Module",
    data: object,
    loss: Callable[..., Any] | None = None,
    *,
    batches: int = 8,
    memory: float | None = None,
    seed: int = 0,
) -> "Triaged":
    """Says why the gradient is small: minimum, saddle, plateau, dead, cancelled, underflow, cut, noise.

    Nothing is changed by a bit: parameters, buffers, ``.grad``, training mode and generators.

    Args:
        model: The model, in the mode in which it is trained.
        data: One batch as in :func:`check`, or several: a data loader, an iterator, or a list of
            tuples or dictionaries.
        loss: As in :func:`check`.
        batches: How many batches of several are taken.
        memory: Bytes that curvature and single samples' gradients may use; None for half of what is
            free.
        seed: Of the random directions and signs that are drawn.

    Returns:
        ``report``: verdict, sentence, evidence, gradient of each tensor, curvature, as plain data;
        ``direction``: the way down of a saddle as one tensor a parameter.

    Raises:
        UsageError: If the model or the loss raises, or the loss is not one number.
    """  # noqa: DOC502 - the probe raises it
    from defib.probe.triage import triage as ask

    return ask(model, data, loss, batches=batches, memory=memory, seed=seed)


def triage_named(
    model: str,
    batch: str,
    loss: str | None = None,
    seed: int = 0,
    *,
    batches: int = 8,
    memory: float | None = None,
) -> "Triaged":
    """The same, with everything named as ``module:factory`` as on the command line.

    Args:
        model: Where a function without arguments, or a class, gives the model.
        batch: Where one gives the batch, a list of batches, or a data loader.
        loss: Where a loss is.
        seed: For torch, numpy and Python, before each of the factories is called.
        batches: As in :func:`triage`.
        memory: As in :func:`triage`.

    Returns:
        What :func:`triage` returns.

    Raises:
        NotFound: If a module or a name in it does not exist.
        UsageError: If a name is not written so, or its code raises.
    """  # noqa: DOC502 - the functions below raise them
    import torch

    made = _made(model, seed)
    if not isinstance(made, torch.nn.Module):
        raise UsageError(f"{model} gives a {type(made).__name__}, not a torch.nn.Module")
    data = _made(batch, seed)
    chosen = None if loss is None else _loss(loss, seed)
    return triage(made, data, chosen, batches=batches, memory=memory, seed=seed)


def _loss(target: str, seed: int) -> Callable[..., Any]:
    """A loss: what a class or a function without parameters gives, or the function itself."""
    found = _named(target)
    made = _called(target, found, seed) if inspect.isclass(found) or not _needs_arguments(found) else found
    if not callable(made):
        raise UsageError(f"{target} gives a {type(made).__name__}, which cannot be called as a loss")
    return made  # type: ignore[no-any-return]


def _made(target: str, seed: int) -> Any:
    """What a factory gives; something that cannot be called is taken as it is."""
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
        raise UsageError(_told(target, error)) from error


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
        raise UsageError(_told(target, error)) from error
    except Exception as error:
        raise UsageError(_told(target, error)) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise NotFound(f"{module_name} has no {name}")
        found = getattr(found, part)
    return found


def _told(what: str, error: Exception) -> str:
    """One line: what raised, what it said, and where in the user's code."""
    from defib.probe.calls import where_raised

    place = where_raised(error)
    said = (str(error).strip().splitlines() or [""])[0]
    return f"{what} raised {type(error).__name__}: {said}" + (f" (at {place})" if place else "")
