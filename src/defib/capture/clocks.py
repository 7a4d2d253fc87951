"""The optimisers that have stepped, each with its own count."""

from collections.abc import Iterable
from time import perf_counter

import torch

from defib.capture.clock import Clock
from defib.capture.naming import Names

MOST_REPEATS = 16
"""Steps of optimisers that were read already for which one that was not is waited for."""


class Clocks:
    """All of one watch.

    Args:
        names: Names of parameters; what they know already was named by the user.
        chosen: The optimisers to count; empty for all that step watched parameters.

    Attributes:
        given: The models to watch were named: optimisers of others do not count.
        unread: Indices of those that have not stepped since a reading was called for.
        started: When the first of them was seen; before that, when this was made.
    """

    def __init__(self, names: Names, chosen: Iterable[torch.optim.Optimizer]) -> None:
        self.given = bool(names.layers())
        self.unread: set[int] = set()
        self.started = perf_counter()
        self._names = names
        self._chosen = {id(o) for o in chosen}
        self._by_id: dict[int, Clock] = {}
        self._made = 0
        self._most = 0
        self._repeats = 0
        self._at_call: dict[int, int] = {}

    @property
    def all(self) -> list[Clock]:
        """Every one of them, dead ones too until they are retired."""
        return list(self._by_id.values())

    @property
    def steps(self) -> int:
        """Steps of the optimiser that took most."""
        return max([self._most, *(c.vitals.step for c in self._by_id.values())])

    @property
    def takes_any(self) -> bool:
        """No optimiser was named."""
        return not self._chosen

    def of(self, optimizer: torch.optim.Optimizer) -> Clock | None:
        """An optimiser's clock, a new one when it is first seen; None if it does not count."""
        clock = self._by_id.get(id(optimizer))
        return clock if clock is not None and clock.is_for(optimizer) else self._new(optimizer, clock)

    def call_for_reading(self) -> None:
        """Each of those that step is to be read; one that has not since the last call may never again."""
        living = [c for c in self._by_id.values() if c.alive]
        self.unread = {c.index for c in living if c.vitals.step > self._at_call.get(c.index, -1)}
        self._at_call = {c.index: c.vitals.step for c in living}
        self._repeats = 0

    def was_read(self, clock: Clock) -> None:
        """One of them was; those that died meanwhile are not waited for, nor is any for long."""
        if clock.index not in self.unread:
            self._repeats += 1
        self.unread.discard(clock.index)
        self.unread &= {c.index for c in self._by_id.values() if c.alive}
        if self._repeats >= MOST_REPEATS:
            self.unread.clear()

    def retire(self) -> list[int]:
        """Let go of those whose optimiser is gone and of which nothing is to come; their indices."""
        gone = {key: c for key, c in self._by_id.items() if not c.alive and c.vitals.settled}
        for key, clock in gone.items():
            self._most = max(self._most, clock.vitals.step)
            del self._by_id[key]
        return [clock.index for clock in gone.values()]

    def clear(self) -> None:
        """Let go of all of them."""
        self._by_id.clear()

    def _new(self, optimizer: torch.optim.Optimizer, dead: Clock | None) -> Clock | None:
        if dead is not None:  # a new optimiser where a dead one was
            self._by_id[-1 - dead.index] = self._by_id.pop(id(optimizer))
        if self._chosen and id(optimizer) not in self._chosen:
            return None
        clock = Clock(self._made, optimizer)
        parameters = clock.parameters()
        if self.given and not any(self._names.owner(p) is not None for p in parameters):
            return None
        if not self.given:
            self._names.search(parameters)
            self._names.adopt(parameters)
        if not self._made:
            self.started = perf_counter()
        self._made += 1
        self._by_id[id(optimizer)] = clock
        self.unread.add(clock.index)
        return clock
