"""The optimisers that have stepped, each with its own count."""

from collections.abc import Iterable
from time import perf_counter

import torch

from defib.capture.clock import Clock
from defib.capture.naming import Names


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

    @property
    def all(self) -> list[Clock]:
        """Every one of them, dead ones too."""
        return list(self._by_id.values())

    @property
    def steps(self) -> int:
        """Steps of the optimiser that took most."""
        return max((c.vitals.step for c in self._by_id.values()), default=0)

    @property
    def takes_any(self) -> bool:
        """No optimiser was named."""
        return not self._chosen

    def of(self, optimizer: torch.optim.Optimizer) -> Clock | None:
        """An optimiser's clock, a new one when it is first seen; None if it does not count."""
        clock = self._by_id.get(id(optimizer))
        return clock if clock is not None and clock.is_for(optimizer) else self._new(optimizer, clock)

    def call_for_reading(self) -> None:
        """Each of those alive is to be read."""
        self.unread = {c.index for c in self._by_id.values() if c.alive}

    def was_read(self, clock: Clock) -> None:
        """One of them was; those that died meanwhile are not waited for."""
        self.unread.discard(clock.index)
        self.unread &= {c.index for c in self._by_id.values() if c.alive}

    def clear(self) -> None:
        """Let go of all of them."""
        self._by_id.clear()

    def _new(self, optimizer: torch.optim.Optimizer, dead: Clock | None) -> Clock | None:
        if dead is not None:  # a new optimiser where a dead one was
            self._by_id[-1 - dead.index] = self._by_id.pop(id(optimizer))
        if self._chosen and id(optimizer) not in self._chosen:
            return None
        clock = Clock(len(self._by_id), optimizer)
        parameters = clock.parameters()
        if self.given and not any(self._names.owner(p) is not None for p in parameters):
            return None
        if not self.given:
            self._names.search(parameters)
            self._names.adopt(parameters)
        if not self._by_id:
            self.started = perf_counter()
        self._by_id[id(optimizer)] = clock
        self.unread.add(clock.index)
        return clock
