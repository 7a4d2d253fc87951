"""Edits of what trains a network: optimisers, their parameter groups and what they remember."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import nn

from defib.core.errors import Refused
from defib.therapy.journal import Journal
from defib.therapy.train_state import TrainState


class OptimizerEdits(Journal):
    """The edits of one treatment that concern optimisers.

    Args:
        state: What is edited.
    """

    def __init__(self, state: TrainState) -> None:
        super().__init__()
        self.state = state
        self.renames = False
        """The model's state dict has other entries now: modules or parameters were added."""

    def setting(self, optimizer: torch.optim.Optimizer, group: int, key: str, value: object) -> None:
        """Sets a hyper-parameter of one parameter group."""
        what = f"{type(optimizer).__name__} group {group} {key}"
        self._put(what, optimizer.param_groups[group], key, value)

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
