"""What a user hands over: a model, a batch with its target, and a loss to compare with it."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from defib.core.errors import UsageError

Loss = Callable[..., Any]
"""Called as ``loss(output, target)``."""


def divided(batch: object) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """A batch as positional arguments, keyword arguments, and target (None if there is none)."""
    if isinstance(batch, Mapping):
        return (), dict(batch), batch.get("labels")
    if isinstance(batch, Sequence) and not isinstance(batch, (str, bytes)) and len(batch) >= 2:
        *inputs, target = batch
        first = inputs[0]
        if len(inputs) == 1 and isinstance(first, Mapping):
            return (), dict(first), target
        if len(inputs) == 1 and isinstance(first, (tuple, list)):
            return tuple(first), {}, target
        return tuple(inputs), {}, target
    return (batch,), {}, batch


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One batch.

    Attributes:
        arguments: Positional arguments of the model.
        options: Its keyword arguments.
        target: What the loss compares with; None if the model knows it.
        samples: Size of the first dimension; 1 if no tensor has one.
    """

    arguments: tuple[Any, ...]
    options: dict[str, Any]
    target: Any
    samples: int

    def tensors(self) -> list[Tensor]:
        """Every tensor that has one entry a sample along its first dimension, inputs first."""
        found = [t for t in _tensors((self.arguments, self.options, self.target)) if t.ndim]
        return [t for t in found if t.shape[0] == self.samples]

    def replaced(self, change: Callable[[Tensor], Tensor]) -> "Piece":
        """The same batch with each of its tensors changed."""
        changed = mapped((self.arguments, self.options, self.target), change)
        return Piece(arguments=changed[0], options=changed[1], target=changed[2], samples=self.samples)

    def part(self, start: int, stop: int) -> "Piece":
        """Some of its samples, next to each other."""
        return self._cut(slice(start, stop), stop - start)

    def spread(self, most: int) -> "Piece":
        """At most so many of its samples, evenly spread: data is often sorted."""
        if self.samples <= most:
            return self
        places = torch.linspace(0, self.samples - 1, most).long()
        return self._cut(places, most)

    def _cut(self, which: slice | Tensor, samples: int) -> "Piece":
        def cut(tensor: Tensor) -> Tensor:
            if not tensor.ndim or tensor.shape[0] != self.samples:
                return tensor
            return tensor[which.to(tensor.device) if isinstance(which, Tensor) else which]

        found = self.replaced(cut)
        return Piece(arguments=found.arguments, options=found.options, target=found.target, samples=samples)


def pieces(data: object, most: int) -> tuple[Piece, ...]:
    """One batch or several as pieces.

    Args:
        data: A batch (a tuple, a mapping, a tensor, a list of tensors), or several: an iterator, a
            data loader, a list of tuples or mappings.
        most: How many of several are taken.

    Returns:
        At least one piece.

    Raises:
        UsageError: If there is no batch in it.
    """
    several = hasattr(data, "__next__") or type(data).__name__ == "DataLoader"
    if isinstance(data, list):
        several = bool(data) and all(isinstance(b, (tuple, list, Mapping)) for b in data)
    batches: Sequence[object] = list(islice(data, most)) if several else [data]  # type: ignore[call-overload]
    if not batches:
        raise UsageError("there is no batch in the data")
    return tuple(_piece(batch) for batch in batches)


def _piece(batch: object) -> Piece:
    arguments, options, target = divided(batch)
    sized = [t for t in _tensors((arguments, options)) if t.ndim]
    return Piece(
        arguments=arguments,
        options=options,
        target=target,
        samples=int(sized[0].shape[0]) if sized and sized[0].shape[0] else 1,
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _tensors(each)


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nest with each tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {k: mapped(v, change) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        found = [mapped(v, change) for v in value]
        return found if isinstance(value, list) else tuple(found)
    return value


def loss_of(loss: Loss | None, output: Any, target: Any) -> Any:
    """The loss, by the user's function or by what is usual for such targets."""
    if loss is not None:
        return loss(output, target)
    own = getattr(output, "loss", None)
    if own is not None:
        return own
    output = getattr(output, "logits", output)
    if not isinstance(output, Tensor) or not isinstance(target, Tensor):
        raise UsageError("no loss was given, and the model's output does not tell which one is meant")
    if target.is_floating_point():
        return functional.mse_loss(output, target)
    return functional.cross_entropy(output, target)


def one_number(loss: Any) -> Tensor:
    """The loss as a tensor of one element.

    Args:
        loss: What the user's loss gave.

    Returns:
        The same.

    Raises:
        UsageError: If it is something else.
    """
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss
    what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
    raise UsageError(f"the loss is to be one number, and is {what}")


def prepared(model: nn.Module) -> nn.Module:
    """The model that is looked at: the inside of a compiled one, a copy of a lazy one."""
    model = getattr(model, "_orig_mod", model)
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
        return copy.deepcopy(model)  # a lazy module cannot be made lazy again
    return model
