"""Edits a training state step by step, so that every step can be taken back.

Before anything is changed, how to change it back is written down: an
interruption at any moment, Ctrl-C included, leaves a journal whose reversal
restores every bit. A treatment uses nothing but these edits and is thereby all
or nothing.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from defib.core.errors import Refused
from defib.therapy.train_state import Several, TrainState

Index = tuple[Any, ...]
"""What stands in the brackets of ``tensor[...]``; () for all of it."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One step of a treatment, with its reversal.

    Attributes:
        what: In words, with the path ("fc1.weight[3:5]").
        undo: Puts back what was there, bit for bit; harmless if the edit never happened.
        stands: Whether what the edit wrote is still there, untouched by later training.
    """

    what: str
    undo: Callable[[], None]
    stands: Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What was done, enough to undo it bit for bit.

    Attributes:
        treatment: Its slug.
        edits: In the order in which they were made.
        left: Copies of the model that were left as they were, by name.
    """

    treatment: str
    edits: tuple[Edit, ...] = field(repr=False)
    left: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[str, ...]:
        """What was changed, in words."""
        return tuple(edit.what for edit in self.edits)

    def undo(self, force: bool = False) -> None:
        """Puts everything back as it was right before the treatment.

        Args:
            force: Also where training has moved on what the treatment wrote.

        Raises:
            Refused: If training has moved on and ``force`` is not set; nothing is changed then.
        """
        moved = () if force else tuple(edit.what for edit in self.edits if not edit.stands())
        if moved:
            raise Refused(f"{self.treatment}: {moved[0]} has been trained since; undo(force=True) resets it")
        for edit in reversed(self.edits):
            edit.undo()


class Surgery:
    """One treatment under way.

    Args:
        state: What is edited.
        treatment: Its slug; together with ``seed`` it seeds :attr:`generator`.
        seed: The same on all ranks of a job, so that their replicas stay equal.
    """

    def __init__(self, state: TrainState, treatment: str, seed: int = 0) -> None:
        self.state = state
        self._treatment = treatment
        self._journal: list[Edit] = []
        digest = hashlib.sha256(f"{treatment}:{seed}".encode()).digest()
        self.generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        """All randomness of the treatment; the user's own generators are never drawn from."""
        self.exchanged: list[tuple[str, nn.Module]] = []
        """Modules that were put in the place of others, by path."""
        self.renames = False
        """The model's state dict has other entries now: modules or parameters were added."""
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
            lambda: _same(getattr(owner, name), value),
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
        held = parent._modules[name]
        if held is not before:
            raise Refused(f"{path} is wrapped (compiled or parallel); swap it before it is wrapped")
        module.train(before.training)
        like = next(iter(before.parameters()), None)
        like = next(self.state.bare.parameters(), None) if like is None else like
        if like is not None:
            module.to(device=like.device, dtype=like.dtype)
        table = parent._modules
        self.exchanged.append((path, module))
        self._do(
            path,
            lambda: table.__setitem__(name, module),
            lambda: table.__setitem__(name, held),
            lambda: table.get(name) is module,
        )

    def exchange(self, what: str, parent: nn.Module, name: str, module: nn.Module) -> None:
        """Puts a module into another model than the one that is treated (an average of its weights)."""
        table = parent._modules
        held = table[name]
        self._do(
            what,
            lambda: table.__setitem__(name, module),
            lambda: table.__setitem__(name, held),
            lambda: table.get(name) is module,
        )

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

    def setting(self, optimizer: torch.optim.Optimizer, group: int, key: str, value: object) -> None:
        """Sets a hyper-parameter of one parameter group."""
        settings = optimizer.param_groups[group]
        before, had = settings.get(key), key in settings

        def back() -> None:
            if had:
                settings[key] = before
            else:
                settings.pop(key, None)

        what = f"{type(optimizer).__name__} group {group} {key}"
        self._do(
            what, lambda: settings.__setitem__(key, value), back, lambda: _same(settings.get(key), value)
        )

    def only_rank(self, why: str) -> None:
        """Refuses what the ranks of a distributed job would do apart.

        Raises:
            Refused: If there are several; with these words.
        """
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            raise Refused(why)

    def adopt(self, new: nn.Parameter, like: nn.Parameter, what: str) -> None:
        """Gives a new parameter to the optimiser that owns ``like``, in the same group.

        Raises:
            Refused: If no optimiser owns ``like``, or the job has several ranks.
        """
        owned = self.state.owner(like)
        if owned is None:
            raise Refused(f"{what}: no optimiser owns the layer, so nobody would train it")
        self.only_rank(f"{what}: the job's ranks would not exchange a new parameter's gradient")
        self.renames = True
        held = owned.optimizer.param_groups[owned.group]["params"]
        table = owned.optimizer.state

        def back() -> None:
            held[:] = [p for p in held if p is not new]
            table.pop(new, None)

        self._do(what, lambda: held.append(new), back, lambda: any(p is new for p in held))

    def forget(self, what: str, parameter: torch.Tensor) -> None:
        """Takes away what the optimiser remembers of a parameter: it starts as with a new one."""
        owned = self.state.owner(parameter)
        table = owned.optimizer.state if owned is not None else {}
        if parameter not in table:
            return
        held = table[parameter]
        before = {key: v.clone() if torch.is_tensor(v) else v for key, v in held.items()}

        def back() -> None:
            for key, value in before.items():
                found = held.get(key)
                if torch.is_tensor(found) and torch.is_tensor(value):
                    found.copy_(value)
                else:
                    held[key] = value
            table[parameter] = held

        self._do(what, lambda: table.pop(parameter), back, lambda: parameter not in table)

    def remember(self, what: str, parameter: torch.Tensor, key: str, value: object) -> None:
        """Sets one entry of what the optimiser keeps for a parameter; it must own the parameter."""
        owned = self.state.owner(parameter)
        if owned is None:
            raise Refused(f"{what}: no optimiser owns it")
        table = owned.optimizer.state
        fresh = parameter not in table
        held = table.get(parameter, {})
        before, had = held.get(key), key in held

        def act() -> None:
            held[key] = value
            table[parameter] = held

        def back() -> None:
            if had:
                held[key] = before
            else:
                held.pop(key, None)
            if fresh:
                table.pop(parameter, None)

        self._do(what, act, back, lambda: key in held and held[key] is value)

    def listen(
        self,
        what: str,
        optimizer: torch.optim.Optimizer,
        before: Callable[..., None] | None = None,
        after: Callable[..., None] | None = None,
    ) -> None:
        """Does something right before or right after each step of an optimiser, until the receipt is undone.

        Args:
            what: In words.
            optimizer: Whose steps.
            before: Called as a step pre-hook of ``torch.optim.Optimizer``.
            after: Called as a step post-hook.
        """
        handles: list[torch.utils.hooks.RemovableHandle] = []

        def act() -> None:
            if before is not None:
                handles.append(optimizer.register_step_pre_hook(before))
            if after is not None:
                handles.append(optimizer.register_step_post_hook(after))

        def back() -> None:
            for handle in handles:
                handle.remove()
            handles.clear()

        self._do(what, act, back, lambda: bool(handles))

    def split_group(
        self,
        optimizer: torch.optim.Optimizer,
        group: int,
        moved: Sequence[torch.Tensor],
        key: str,
        value: object,
    ) -> None:
        """Moves parameters of a group into a new one that differs in one setting.

        Args:
            optimizer: The optimiser.
            group: Index of the group.
            moved: Those that move.
            key: The setting.
            value: Its value in the new group.
        """
        groups, old = optimizer.param_groups, optimizer.param_groups[group]
        ids = {id(p) for p in moved}
        before = list(old["params"])
        new = {**old, "params": [p for p in before if id(p) in ids], key: value}

        def act() -> None:
            old["params"][:] = [p for p in before if id(p) not in ids]
            groups.append(new)

        def back() -> None:
            old["params"][:] = before
            groups[:] = [g for g in groups if g is not new]

        self._do(
            f"{type(optimizer).__name__} group {group} split by {key}",
            act,
            back,
            lambda: any(g is new for g in groups),
        )

    def close(self) -> Receipt:
        """The treatment is complete."""
        left = self.state.copies if self.rewrites or self.exchanged else ()
        return Receipt(treatment=self._treatment, edits=tuple(self._journal), left=left)

    def take_back(self) -> None:
        """Undo what was done so far, the last edit first."""
        while self._journal:
            self._journal[-1].undo()
            self._journal.pop()

    def _do(
        self, what: str, act: Callable[[], object], undo: Callable[[], None], stands: Callable[[], bool]
    ) -> None:
        """Write down the reversal, then act: an interruption in between undoes what never happened."""
        self._journal.append(Edit(what=what, undo=undo, stands=stands))
        act()


def _through_before(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A module-level function, so that a model with this hook can still be pickled and copied."""
    return (module._modules[name](inputs[0]), *inputs[1:])  # type: ignore[misc]


def _through_behind(name: str, module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
    return module._modules[name](output)  # type: ignore[misc]


def _same(found: object, written: object) -> bool:
    """Whether a setting is still what was written."""
    return found is written or bool(found == written)


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal as bytes: NaN equals itself, -0 does not equal 0."""
    left, right = a.detach().cpu().contiguous(), b.detach().cpu().contiguous()
    return left.reshape(-1).view(torch.uint8).equal(right.reshape(-1).view(torch.uint8))
