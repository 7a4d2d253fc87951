"""Keeps how models were while they were healthy."""

import weakref

from torch import nn

from defib.therapy.train_state import Snapshot, TrainState


class Vault:
    """Snapshots of models while they were healthy, for treatments that go back."""

    def __init__(self) -> None:
        self._kept: list[tuple[weakref.ref[nn.Module], Snapshot]] = []

    def copy(self) -> "Vault":
        """Another one that holds the same snapshots, which take no memory twice."""
        other = Vault()
        other._kept = list(self._kept)
        return other

    def keep(self, states: tuple[TrainState, ...], step: int) -> None:
        """Takes one of each model; the one before it is let go."""
        mine = {id(state.model) for state in states}
        older = [(ref, s) for ref, s in self._kept if (m := ref()) is not None and id(m) not in mine]
        self._kept = [*older, *((weakref.ref(state.model), state.photograph(step)) for state in states)]

    def lend(self, states: tuple[TrainState, ...]) -> tuple[TrainState, ...]:
        """The same states, with their snapshots."""
        for state in states:
            state.snapshot = next((s for ref, s in self._kept if ref() is state.model), None)
        return states
