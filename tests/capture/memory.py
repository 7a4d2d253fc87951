"""A sink that keeps everything it is told."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defib.core.site import Signal, Site
from defib.core.tally import Tally, merge
from defib.core.wiring import Layer, Wiring


@dataclass
class Memory:
    """``core.ports.Sink`` in memory."""

    known: dict[str, Any] = field(default_factory=dict)
    modules: tuple[Layer, ...] = ()
    wired: tuple[Wiring, ...] = ()
    loss_operations: tuple[str, ...] = ()
    optimizers: dict[int, dict[str, Any]] = field(default_factory=dict)
    streams: list[tuple[int, int, dict[str, NDArray[np.float32]]]] = field(default_factory=list)
    lives: dict[tuple[int, str], tuple[dict[str, Any], NDArray[np.int32]]] = field(default_factory=dict)
    windows: dict[tuple[Site, Signal, int], tuple[int, Tally]] = field(default_factory=dict)
    flows: list[tuple[int, dict[tuple[Site, Signal], float]]] = field(default_factory=list)
    sizes: list[tuple[int, tuple[str, ...], NDArray[np.float32]]] = field(default_factory=list)
    objectives: list[tuple[int, dict[str, str], NDArray[np.float64]]] = field(default_factory=list)
    events: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    exhibits: dict[tuple[str, str, int], tuple[dict[str, Any], dict[str, NDArray[np.generic]]]] = field(
        default_factory=dict
    )
    status: str | None = None

    seconds = 0.0

    def facts(self, values: dict[str, Any]) -> None:
        self.known.update(values)

    def layers(self, layers: tuple[Layer, ...]) -> None:
        self.modules = layers

    def wirings(self, wirings: tuple[Wiring, ...], loss_operations: tuple[str, ...]) -> None:
        self.wired, self.loss_operations = wirings, loss_operations

    def optimizer(self, index: int, facts: dict[str, Any]) -> None:
        self.optimizers.setdefault(index, {}).update(facts)

    def stream(self, optimizer: int, step: int, columns: dict[str, NDArray[np.float32]]) -> None:
        self.streams.append((optimizer, step, {name: values.copy() for name, values in columns.items()}))

    def liveness(self, optimizer: int, path: str, facts: dict[str, Any], units: NDArray[np.int32]) -> None:
        self.lives[optimizer, path] = (dict(facts), units.copy())

    def reading(self, site: Site, signal: Signal, first: int, last: int, tally: Tally) -> None:
        self.windows[site, signal, first] = (last, tally)

    def flow(self, step: int, values: dict[tuple[Site, Signal], float]) -> None:
        self.flows.append((step, dict(values)))

    def norms(self, step: int, parameters: tuple[str, ...], values: NDArray[np.float32]) -> None:
        self.sizes.append((step, parameters, values.copy()))

    def objective(self, step: int, facts: dict[str, str], values: NDArray[np.float64]) -> None:
        self.objectives.append((step, facts, values.copy()))

    def event(self, step: int, kind: str, data: dict[str, Any]) -> None:
        self.events.append((step, kind, data))

    def exhibit(
        self,
        kind: str,
        path: str,
        step: int,
        facts: dict[str, Any],
        arrays: dict[str, NDArray[np.generic]],
    ) -> None:
        self.exhibits[kind, path, step] = (dict(facts), {name: a.copy() for name, a in arrays.items()})

    def close(self, status: str) -> None:
        self.status = status

    # -- for asking ----------------------------------------------------------

    def tally(self, path: str, signal: Signal, call: int = 0) -> Tally:
        """All windows of one signal merged."""
        site = Site(path=path, call=call)
        total = merge(t for (s, g, _), (_, t) in self.windows.items() if (s, g) == (site, signal))
        assert total is not None, (
            f"no {signal} at {site}; there are {sorted({str(k[:2]) for k in self.windows})}"
        )
        return total

    def wiring(self, path: str, call: int = 0) -> Wiring:
        return next(w for w in self.wired if w.site == Site(path=path, call=call))

    def loss(self, optimizer: int = 0) -> NDArray[np.float32]:
        """Losses step by step; fails if a step is missing or told twice."""
        parts = sorted((s, c["loss"]) for o, s, c in self.streams if o == optimizer and "loss" in c)
        at = 0
        for start, values in parts:
            assert start == at
            at += len(values)
        return np.concatenate([v for _, v in parts]) if parts else np.zeros(0, np.float32)
