"""All that a rule may read: plain data about one run, made by ``record.reader``.

Letters: ``R`` sampled steps.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defib.core.coverage import Overhead
from defib.core.evidence import Unseen
from defib.core.objective import Objective
from defib.core.optimizer import Norms, Optimizer, Pairs
from defib.core.reading import Liveness, Reading
from defib.core.series import Series
from defib.core.sharpness import Sharpness
from defib.core.site import Signal, Site
from defib.core.tally import Tally, merge
from defib.core.wiring import Layer, Wiring


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened once.

    Attributes:
        step: Optimiser step at or before which it happened; -1 before the first.
        kind: "non-finite", "skipped-step", "cut", "compiled", "watcher-fault", "gap", ...
        data: Its details, JSON-able.
    """

    step: int
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """Arrays kept as evidence about one place at one step: what a number alone cannot prove.

    Attributes:
        kind: What it shows ("dead-units", "autopsy", "curvature", "confusion").
        path: The layer that it is about; "" for the whole model.
        step: Optimiser step that it belongs to; -1 before the first.
        facts: Its details, JSON-able.
        arrays: Named arrays of any shape; float16 to float64, integers and booleans.
    """

    kind: str
    path: str
    step: int
    facts: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[np.generic]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunView:
    """One run, as rules see it. Missing data is missing: see ``unseen``.

    Attributes:
        facts: Path, script, versions, times, status ("running", "finished", "interrupted").
        layers: In the order of the model's own listing.
        wirings: In order of data flow.
        readings: All readings, by site, signal and time.
        liveness: By layer path.
        optimizers: In order of first use.
        norms: Sizes of gradients, weights and updates; None if never taken.
        pairs: Consecutive steps compared, by index of the optimiser.
        sharpness: The largest curvature of the loss, by index of the optimiser, where it was measured.
        logged: What the script logged with ``defib.log``, by name.
        flow_steps: Sampled steps, shape (R,).
        flow: For each site and signal the RMS over entries at each sampled step, shape (R,);
            NaN where that reading is missing.
        events: In order of time.
        exhibits: Arrays kept as evidence, in order of step.
        loss_operations: Autograd node names between the last layer and the loss, loss first.
        objective: What the loss compared; None if it was never read.
        unseen: What was not observed, and why.
        overhead: What watching cost.
    """

    facts: dict[str, Any]
    layers: tuple[Layer, ...] = ()
    wirings: tuple[Wiring, ...] = ()
    readings: tuple[Reading, ...] = ()
    liveness: dict[str, Liveness] = field(default_factory=dict)
    optimizers: tuple[Optimizer, ...] = ()
    norms: Norms | None = None
    pairs: dict[int, Pairs] = field(default_factory=dict)
    sharpness: dict[int, Sharpness] = field(default_factory=dict)
    logged: dict[str, Series] = field(default_factory=dict)
    flow_steps: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    flow: dict[tuple[Site, Signal], NDArray[np.float64]] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    exhibits: tuple[Exhibit, ...] = ()
    loss_operations: tuple[str, ...] = ()
    objective: Objective | None = None
    unseen: tuple[Unseen, ...] = ()
    overhead: Overhead = field(
        default_factory=lambda: Overhead(ratio=None, seconds=0.0, budget=0.0, period=0.0)
    )

    @property
    def steps(self) -> int:
        """Optimiser steps taken (the most of any optimiser)."""
        return max((o.steps for o in self.optimizers), default=0)

    @property
    def loss(self) -> Series:
        """The loss of the first optimiser; empty if there is none."""
        return self.optimizers[0].loss if self.optimizers else Series.empty()

    def wiring(self, site: Site) -> Wiring | None:
        """The wiring at a site, if an activation was seen there."""
        return next((w for w in self.wirings if w.site == site), None)

    def layer(self, path: str) -> Layer | None:
        """The layer at a path."""
        return next((layer for layer in self.layers if layer.path == path), None)

    def at(self, site: Site, signal: Signal) -> tuple[Reading, ...]:
        """Readings of one signal at one site, in order of time."""
        return self._by_place.get((site, signal), ())

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: the run, without what was worked out from it on the way."""
        return {name: value for name, value in vars(self).items() if name != "_by_place"}

    @cached_property
    def _by_place(self) -> dict[tuple[Site, Signal], tuple[Reading, ...]]:
        """The readings by site and signal: a large record has thousands of them."""
        found: dict[tuple[Site, Signal], list[Reading]] = {}
        for reading in self.readings:
            found.setdefault((reading.site, reading.signal), []).append(reading)
        return {place: tuple(readings) for place, readings in found.items()}

    def tally(self, site: Site, signal: Signal, since: int = 0) -> Tally | None:
        """All readings of a signal that began at or after step ``since``, merged; None if there are none."""
        return merge(r.tally for r in self.at(site, signal) if r.first >= since)

    def of_kind(self, kind: str) -> tuple[Event, ...]:
        """Events of one kind, in order of time."""
        return tuple(e for e in self.events if e.kind == kind)
