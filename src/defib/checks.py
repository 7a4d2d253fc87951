"""Where the probe meets the user: the check of a model before training, and the triage of a standstill."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from defib import factories

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
    made, data = factories.model(model, seed), factories.batch(batch, seed)
    return check(made, data, factories.loss(loss, seed))


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
    made, data = factories.model(model, seed), factories.made(batch, seed)
    return triage(made, data, factories.loss(loss, seed), batches=batches, memory=memory, seed=seed)
