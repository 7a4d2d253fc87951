"""Where the autopsy of a step meets the user, and where a watch gets hold of it."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from defib.core.errors import UsageError

if TYPE_CHECKING:
    import torch

    from defib.core.kill import Kills


def autopsy(
    model: "torch.nn.Module",
    before: "Mapping[str, torch.Tensor]",
    after: "Mapping[str, torch.Tensor] | None",
    batch: object,
) -> "Kills":
    """Says which units one step killed on a batch, by what, and how small the step had to be.

    The model is run with both sets of parameters, in the mode that it is in; it is left bit for bit as
    it was.

    Args:
        model: The model.
        before: Its ``state_dict()`` before the step (a copy: ``copy.deepcopy(model.state_dict())``).
        after: The same after it; None for what the model holds now.
        batch: ``(input, target)``, ``(input, ..., target)``, a dictionary of the model's keyword
            arguments, or an input alone. The target is not used.

    Returns:
        For each layer with killed units the split of the kill, the death-free factor and the
        counterfactuals.

    Raises:
        UsageError: If parameters are missing or of another shape, or the model raises.
    """  # noqa: DOC502 - the functions below raise it
    from defib.core.kill import Call, Inquest
    from defib.probe.batch import divided
    from defib.probe.kill import inquire

    now = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    parameters = [name for name, _ in model.named_parameters()]
    old = _fitting(now, before, parameters, "before")
    new = _fitting(now, now if after is None else after, parameters, "after")
    arguments, options, _ = divided(batch)
    call = Call(arguments=tuple(arguments), options=options)
    inquest = Inquest(model=model, before=old, after=new, calls=(call,))
    return inquire(inquest)


def _fitting(
    now: "Mapping[str, torch.Tensor]",
    given: "Mapping[str, torch.Tensor]",
    parameters: "Iterable[str]",
    word: str,
) -> "dict[str, torch.Tensor]":
    """A state's tensors by the model's own names, each once."""
    missing = [name for name in parameters if name not in given]  # a buffer need not be in a state
    if missing:
        raise UsageError(f"{word!r} has no {missing[0]}: give model.state_dict() of the same model")
    found = {name: given.get(name, tensor) for name, tensor in now.items()}
    for name, tensor in found.items():
        if tensor.shape != now[name].shape:
            told = f"{word!r} has {name} of shape {tuple(tensor.shape)}, the model {tuple(now[name].shape)}"
            raise UsageError(told)
    return {name: tensor.detach().clone() for name, tensor in found.items()}
