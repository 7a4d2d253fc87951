"""Edits a training state step by step, so that every step can be taken back.

A treatment uses nothing but these edits and those of optimisers, each of which
writes its reversal into the journal first, and is thereby all or nothing.
"""

import hashlib
from functools import partial
from typing import Any

import torch
from torch import nn

from defib.core.errors import Refused
from defib.therapy.journal import Receipt, same
from defib.therapy.optimizer_edits import OptimizerEdits
from defib.therapy.train_state import Several, TrainState

Index = tuple[Any, ...]
"""What stands in the brackets of ``tensor[...]``; () for all of it."""


class Surgery(OptimizerEdits):
    """One treatment under way.

    Args:
        state: What is edited.
        treatment: Its slug; together with ``seed`` it seeds :attr:`generator`.
        seed: The same on all ranks of a job, so that their replicas stay equal.
    """

    def __init__(self, state: TrainState, treatment: str, seed: int = 0) -> None:
        super().__init__(state)
        self._treatment = treatment
        digest = hashlib.sha256(f"{treatment}:{seed}".encode()).digest()
        self.generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        """All randomness of the treatment; the user's own generators are never drawn from."""
        self.exchanged: list[tuple[str, nn.Module]] = []
        """Modules that were put in the place of others, by path."""
        self.rewrites = False
        """Parameters were overwritten."""

    def write(self, what: str, tensor: torch.Tensor, values: torch.Tensor, where: Index = ()) -> None:
        """Overwrites a tensor, or a part of it, in place.

        Args:
            what: The tensor's name.
            tensor: A parameter, a buffer or an optimiser's state.
            values: New values, any dtype and device; broadcast to the part.
            where: Which part, as in ``tensor[where]``.

        Raises:
            Refused: If the tensor is sparse or sharded.
        """
        if getattr(tensor, "is_sparse", False) or hasattr(tensor, "to_local"):
            raise Refused(f"{what} is sparse or sharded; defib edits ordinary tensors only")
        self.rewrites = self.rewrites or isinstance(tensor, nn.Parameter)
        data = tensor.detach()
        before = data[where].clone()

        def put(part: torch.Tensor) -> None:
            with torch.no_grad():
                data[where] = part

        new = torch.empty_like(before, memory_format=torch.contiguous_format).copy_(values)
        self._do(
            what,
            lambda: put(new),
            lambda: put(before),
            lambda: _same_bits(data[where], new),
        )

    def attribute(self, what: str, owner: object, name: str, value: object) -> None:
        """Sets an attribute of a module or a scheduler."""
        before = getattr(owner, name)
        self._do(
            what,
            lambda: setattr(owner, name, value),
            lambda: setattr(owner, name, before),
            lambda: same(getattr(owner, name), value),
        )

    def replace(self, path: str, module: nn.Module) -> None:
        """Puts another module at a path, in the mode of the old one.

        Args:
            path: As the user knows it; not the model itself.
            module: The new one; moved to the old one's device and floating-point format.

        Raises:
            Refused: If it is the model itself, or wrapped.
        """
        if not path:
            raise Refused("the model itself cannot be replaced, only a module in it")
        parent_path, _, name = path.rpartition(".")
        parent, before = self.state.module(parent_path), self.state.module(path)
        if isinstance(parent, Several):
            raise Refused(f"{path} is a model of its own, which cannot be replaced, only modules in it")
        if parent._modules[name] is not before:
            raise Refused(f"{path} is wrapped (compiled or parallel); swap it before it is wrapped")
        module.train(before.training)
        like = next(iter(before.parameters()), None)
        like = next(self.state.bare.parameters(), None) if like is None else like
        if like is not None:
            module.to(device=like.device, dtype=like.dtype)
        self.exchanged.append((path, module))
        self._put(path, parent._modules, name, module)

    def exchange(self, what: str, parent: nn.Module, name: str, module: nn.Module) -> None:
        """Puts a module into another model than the one that is treated (an average of its weights)."""
        self._put(what, parent._modules, name, module)

    def attach(self, path: str, name: str, module: nn.Module, before: bool) -> None:
        """Puts a module right before or behind another, which keeps its own name and its parameters' names.

        Args:
            path: The module that stays.
            name: Under which the new one becomes its child; part of the state dict from now on.
            module: Maps what flows there to the same shape.
            before: In front of it (it then has one input), else behind.

        Raises:
            Refused: If there is a child of that name already.
        """
        self.renames = True
        owner = self.state.module(path)
        if name in owner._modules or hasattr(owner, name):
            raise Refused(f"{path} has something called {name} already")
        module.train(owner.training)
        like = next(owner.parameters(), None)
        if like is not None:
            module.to(device=like.device, dtype=like.dtype)
        handles: list[torch.utils.hooks.RemovableHandle] = []

        def act() -> None:
            owner.add_module(name, module)
            if before:
                handles.append(owner.register_forward_pre_hook(partial(_through_before, name)))
            else:
                handles.append(owner.register_forward_hook(partial(_through_behind, name)))

        def back() -> None:
            for handle in handles:
                handle.remove()
            owner._modules.pop(name, None)

        self._do(f"{path}.{name}", act, back, lambda: owner._modules.get(name) is module)

    def close(self) -> Receipt:
        """The treatment is complete."""
        left = self.state.copies if self.rewrites or self.exchanged else ()
        return Receipt(treatment=self._treatment, edits=tuple(self._journal), left=left)


def _through_before(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A module-level function, so that a model with this hook can still be pickled and copied."""
    return (module._modules[name](inputs[0]), *inputs[1:])  # type: ignore[misc]


def _through_behind(name: str, module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
    return module._modules[name](output)  # type: ignore[misc]


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal as bytes: NaN equals itself, -0 does not equal 0."""
    left, right = a.detach().cpu().contiguous(), b.detach().cpu().contiguous()
    return left.reshape(-1).view(torch.uint8).equal(right.reshape(-1).view(torch.uint8))
