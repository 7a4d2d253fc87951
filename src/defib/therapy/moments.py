"""What an optimiser remembers of a parameter, and which part of it belongs to which unit.

State that is not known by name is never touched: a treatment is refused rather
than left with moments that belong to weights which are gone.
"""

from collections.abc import Iterator

import torch

from defib.core.errors import Refused
from defib.therapy.surgery import Index, Surgery
from defib.therapy.train_state import TrainState

_DIRECTIONS: dict[str, tuple[str, ...]] = {
    "SGD": ("momentum_buffer",),
    "Adam": ("exp_avg",),
    "AdamW": ("exp_avg",),
    "NAdam": ("exp_avg",),
    "RAdam": ("exp_avg",),
    "Adamax": ("exp_avg",),
    "RMSprop": ("momentum_buffer", "grad_avg"),
    "Adagrad": (),
    "Adadelta": ("acc_delta",),
    "Rprop": ("prev",),
}
"""State of the parameter's shape that says where it was going, by the class in torch.optim."""

_SIZES: dict[str, tuple[str, ...]] = {
    "SGD": (),
    "Adam": ("exp_avg_sq", "max_exp_avg_sq"),
    "AdamW": ("exp_avg_sq", "max_exp_avg_sq"),
    "NAdam": ("exp_avg_sq",),
    "RAdam": ("exp_avg_sq",),
    "Adamax": ("exp_inf",),
    "RMSprop": ("square_avg",),
    "Adagrad": ("sum",),
    "Adadelta": ("square_avg",),
    "Rprop": ("step_size",),
}
"""State of the parameter's shape that says how large its gradients were."""

_AT_ONCE = ("RMSprop", "NAdam")
"""Families in which one gradient counts in full, or nearly so, on the very step on which it comes."""


def settle(
    surgery: Surgery, name: str, parameter: torch.Tensor, where: Index, live: Index | None = None
) -> None:
    """Makes a part of a parameter start anew, and gently: what was there is gone, its neighbours stay.

    The direction becomes 0. The size becomes the median over ``live``, or over the whole tensor, so
    that the first gradient is divided by what is usual in the layer and not by what was left to
    decay: from 0, the first update would be (1 - beta1) / sqrt(1 - beta2) = 3.16 learning rates. From
    the median v it stays below one learning rate for any gradient up to sqrt(beta2 v / ((1 - beta1)^2 -
    (1 - beta2))) = 10.5 sqrt(v). RMSprop averages no direction: there a gradient of sqrt(v) already
    makes one learning rate, so that the size becomes four times the largest instead.

    Args:
        surgery: Makes the edits.
        name: The parameter's name.
        parameter: The parameter.
        where: The part, as in ``parameter[where]``.
        live: The part whose sizes are usual; None for all of it.

    Raises:
        Refused: If the optimiser or its state is not known.
    """  # noqa: DOC502 - raised while the state is looked through
    owned = surgery.state.owner(parameter)
    at_once = owned is not None and _family(type(owned.optimizer)) in _AT_ONCE
    for key, tensor, is_size in _known(surgery.state, name, parameter):
        if not is_size:
            surgery.write(f"{key} of {name}", tensor, torch.zeros(()), where)
            continue
        usual = (tensor if live is None else tensor[live]).detach().flatten()
        positive = usual[usual > 0]
        usual = 4 * positive.max() if at_once and len(positive) else positive
        warm = usual.median() if len(positive) else torch.zeros(())
        surgery.write(f"{key} of {name}", tensor, warm, where)


def restart(surgery: Surgery, name: str, parameter: torch.Tensor) -> None:
    """Makes the optimiser treat a whole parameter as it treated it on the first step.

    Args:
        surgery: Makes the edits.
        name: The parameter's name.
        parameter: The parameter.

    Raises:
        Refused: If the optimiser or its state is not known.
    """  # noqa: DOC502 - raised while the state is looked through
    known = list(_known(surgery.state, name, parameter))
    owned = surgery.state.owner(parameter)
    if owned is None or not known:
        return
    if _family(type(owned.optimizer)) != "Adagrad":  # which makes its state when it is built, not later
        surgery.forget(f"optimiser state of {name}", parameter)
        return
    start = float(owned.optimizer.defaults.get("initial_accumulator_value", 0.0))
    for key, tensor, _ in known:
        surgery.write(f"{key} of {name}", tensor, torch.tensor(start))


def _known(state: TrainState, name: str, parameter: torch.Tensor) -> Iterator[tuple[str, torch.Tensor, bool]]:
    """State tensors of the parameter's shape, and whether each is a size."""
    owned = state.owner(parameter)
    if owned is None:
        return
    family = _family(type(owned.optimizer))
    held = owned.optimizer.state.get(parameter, {})
    for key, value in held.items():
        if not torch.is_tensor(value) or value.ndim == 0:
            continue
        mine = family is not None and key in _DIRECTIONS[family] + _SIZES[family]
        if not mine or value.shape != parameter.shape:
            kind = type(owned.optimizer).__name__
            raise Refused(f"{kind} keeps {key!r} for {name}, which defib cannot tell apart by units")
        yield key, value, key in _SIZES[str(family)]


def _family(kind: type[torch.optim.Optimizer]) -> str | None:
    """The class of torch.optim that this one is, or is derived from."""
    own = (c.__name__ for c in kind.__mro__ if c.__module__.startswith("torch.optim"))
    return next((name for name in own if name in _DIRECTIONS), None)


def halt(surgery: Surgery, name: str, parameter: torch.Tensor, where: Index = ()) -> bool:
    """Takes away the direction in which a part of a parameter was going, and leaves the sizes.

    Args:
        surgery: Makes the edits.
        name: The parameter's name.
        parameter: The parameter.
        where: The part.

    Returns:
        Whether there was a direction.

    Raises:
        Refused: If the optimiser or its state is not known.
    """  # noqa: DOC502 - raised while the state is looked through
    found = False
    for key, tensor, is_size in _known(surgery.state, name, parameter):
        if not is_size:
            surgery.write(f"{key} of {name}", tensor, torch.zeros(()), where)
            found = True
    return found
