"""Keeps what is left of dead units: all that will decide whether they come back.

A unit that gets no gradient is moved by nothing but its optimiser's stored state and decay. Those rows
of weight, bias and optimiser state are copied at flush time, for layers that have silent units. What
feeds the layer is sampled on steps that are read anyway: over the whole run where it is data, which do
not move, and anew each time where it is features that do.

Letters: ``N`` samples kept, ``D`` features of a sample, ``U`` silent units.
"""

import random
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from defib.capture.border import Parcel, send
from defib.capture.clock import Clock
from defib.capture.graph import Tap, Walk
from defib.capture.liveness import UnitState
from defib.capture.vitals import SILENCE
from defib.core.ports import Sink
from defib.core.remains import Remains
from defib.core.remains_exhibit import KIND, preserve
from defib.torchgraph.features import can_be_read, features, feeds_on_data, weight_of
from defib.torchgraph.unit_state import Rows, is_plain, rows_of

UNITS = 256
"""Units of a layer whose state is kept at most, evenly spaced among the silent ones."""

SAMPLES = 1024
"""Samples kept for a layer that is fed by data; a deeper one has those of its last reading, at most."""

AT_ONCE = 128
"""Samples taken on one step for a layer that is fed by data."""

KNOWN = 1 << 16
"""Samples of one layer that are remembered as seen."""

LAYER_BYTES = 4 << 20
"""Most memory of the samples of one layer, and of the state of its units."""

SPARE_BYTES = 64 << 10
"""The same for a deeper layer without silent units: a short run may have no other reading."""

PENDING = 16
"""Samplings of one layer that wait to be taken in at most."""

EARLY_BYTES = 1 << 20
"""Written without a wait at first, of each layer that has more silent units by a tenth."""

_GROWTH = (1.1, 2.0)
"""By how much a layer's silent units must have grown for that; later, once those bytes are written."""

BYTES_A_SECOND = 8 << 20
"""Remains are written again no faster than this times the budget: writing takes time from training."""


@dataclass(eq=False)
class _Layer:
    """One layer whose units can die.

    Attributes:
        path: Its path.
        first: Fed by data.
        threshold: Pre-activation above which its units fire.
        parameters: "weight", and "bias" if it has one; held weakly.
        kept: Samples on the host, shape (N, D); None before the first.
        seen: Different samples that were offered.
        known: Hashes of them, as far as there is room.
        began: Step of its first exhibit; -1 before.
        wanted: It has silent units, so that a deeper layer is worth sampling in full.
        silent: Units that were silent when it was last written.
        under_way: Samples on their way to the host.
    """

    path: str
    first: bool
    threshold: float
    parameters: dict[str, "weakref.ref[torch.Tensor]"]
    kept: NDArray[np.floating[Any]] | None = None
    seen: int = 0
    began: int = -1
    wanted: bool = False
    silent: int = 0
    known: set[int] = field(default_factory=set)
    under_way: list[Parcel] = field(default_factory=list)

    def most(self, size: int) -> int:
        """Samples to take on one step, of ``size`` bytes each."""
        if self.first:
            return max(1, min(AT_ONCE, LAYER_BYTES // size))
        if self.wanted:
            return max(1, min(SAMPLES, LAYER_BYTES // size))
        return max(1, min(AT_ONCE, SPARE_BYTES // size))

    def is_new(self, sample: NDArray[Any]) -> bool:
        """Whether a sample has not been offered before; past a great many that is no longer asked."""
        key = hash(sample.tobytes())
        if key in self.known:
            return False
        if len(self.known) < KNOWN:
            self.known.add(key)
        return True


@dataclass(frozen=True, kw_only=True)
class _Sent:
    """Rows of one layer's units on their way to the host."""

    layer: _Layer
    units: NDArray[np.int64]
    silent: int
    step: int
    samples_seen: int
    rows: tuple[Rows, ...]
    parcel: Parcel


class Custody:
    """Keeps the remains of one run's dead units.

    Args:
        sink: Takes them.
        budget: Share of the run's time that may be spent.
        samples: Keep samples of what feeds a layer; without them nothing can be foretold, and nothing
            is kept at all.
    """

    def __init__(self, sink: Sink, budget: float, *, samples: bool = True) -> None:
        self._sink = sink
        self._early = EARLY_BYTES
        self._rate = BYTES_A_SECOND * max(budget, 1e-6)
        self._layers: dict[str, _Layer] = {}
        self._sent: list[_Sent] = []
        self._next_write = 0.0
        # Generators of our own: the user's are not to be touched.
        self._random = np.random.default_rng(0)
        self._offset = random.Random(0)
        self._off = not samples

    def sample(self, walk: Walk) -> None:
        """A backward is read: take samples of what feeds the layers that can die."""
        if not self._off:
            with self._guarded():
                self._sample(walk)

    def _sample(self, walk: Walk) -> None:
        for tap in walk.taps:
            layer = self._layer(tap)
            weight = weight_of(tap.producer.parameters) if tap.producer is not None else None
            if layer is None or tap.producer is None or weight is None or len(layer.under_way) >= PENDING:
                continue
            if not layer.first:
                layer.under_way.clear()  # only its newest features count
            most = layer.most(4 * max(1, weight[0].numel()))
            found = features(tap.producer.node, most, self._offset.randrange(1 << 30))
            if found is not None:
                layer.under_way.append(Parcel([found]))

    def renew(self) -> None:
        """The network was changed: what was kept is of another one."""
        self._layers.clear()
        self._sent.clear()

    def keep(self, clocks: Sequence[Clock], stepping: Clock | None, last: bool) -> None:
        """Copy the state of units that are silent, unless that was done a moment ago.

        Args:
            clocks: All optimisers.
            stepping: The one that is about to step: it has taken one step less than it has counted.
            last: The run is over, or somebody asks: now, and wait for the device.
        """
        if not self._off:
            with self._guarded():
                self._keep(clocks, stepping, last)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """A fault in here ends the keeping of remains, not the watch."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - training goes on
            self._off = True
            self.renew()
            said = f"remains of dead units: {type(error).__name__}: {error}"
            self._sink.event(-1, "watcher-fault", {"error": said, "off": False})

    def _keep(self, clocks: Sequence[Clock], stepping: Clock | None, last: bool) -> None:
        self._settle(last)
        now = monotonic()
        # A short run has no second chance: at its end the optimiser may be gone before we are asked.
        growth = _GROWTH[0] if self._early > 0 else _GROWTH[1]
        everything, weight = now >= self._next_write or last, 0
        for clock in clocks:
            for path, state in clock.vitals.states.items():
                layer = self._layers.get(path)
                if layer is not None and (everything or _silent(state) > growth * layer.silent):
                    layer.silent = _silent(state)
                    weight += self._take(layer, state, clocks, clock, stepping)
        self._early -= weight
        self._next_write = (now if everything else self._next_write) + weight / self._rate
        self._settle(last)

    def _layer(self, tap: Tap) -> _Layer | None:
        """The layer of a tap, if its units can die and are rows of its weight."""
        path = tap.wiring.site.path
        known = self._layers.get(path)
        producer = tap.producer
        if known is not None or producer is None or not tap.direct:
            return known if tap.direct else None
        if any(p.numel() == 0 for p in producer.parameters):
            return None
        if not tap.activation.may_die(tap.wiring.options) or not all(map(is_plain, producer.parameters)):
            return None
        if producer.owner.path != path or not can_be_read(producer.node, producer.parameters):
            return None
        limits = tap.activation.flat("self", "float64", tap.wiring.options)
        if not np.isfinite(limits.low):
            return None
        named = {("weight" if p.ndim > 1 else "bias"): weakref.ref(p) for p in producer.parameters}
        first = feeds_on_data(producer.node, producer.parameters)
        self._layers[path] = _Layer(path, first, float(limits.low), named)
        return self._layers[path]

    def _take(
        self,
        layer: _Layer,
        state: UnitState,
        clocks: Iterable[Clock],
        clock: Clock,
        stepping: Clock | None,
    ) -> int:
        """Send the rows of a layer's silent units on their way; returns their bytes."""
        silence = state.last_step - state.last_alive if state.steps else np.zeros(0)
        silent = np.flatnonzero(silence >= SILENCE)
        layer.wanted = len(silent) > 0
        parameters = {name: p for name, ref in layer.parameters.items() if (p := ref()) is not None}
        if not layer.wanted or len(parameters) < len(layer.parameters):
            return 0
        if any(len(p) != len(state.last_alive) for p in parameters.values()):
            return 0
        width = sum(p[0].numel() for p in parameters.values())
        most = int(np.clip(LAYER_BYTES // (16 * max(1, width)), 1, UNITS))
        units = silent[np.linspace(0, len(silent) - 1, min(most, len(silent))).astype(np.int64)]
        owners = {name: _owner(p, clocks) for name, p in parameters.items()}
        if any(owner is not None and owner.optimizer is None for owner in owners.values()):
            return 0  # the optimiser is gone, and what was kept of it before stands
        at_step = stepping is not None
        rows = tuple(_rows(n, p, units, owners[n], at_step) for n, p in sorted(parameters.items()))
        batch = clock.samples / clock.batches if clock.batches else 1.0
        sent = _Sent(
            layer=layer,
            units=units,
            silent=len(silent),
            step=clock.vitals.step - (clock is stepping),
            samples_seen=int(silence[units].min() * max(1.0, batch)),
            rows=rows,
            parcel=Parcel([tensor for row in rows for tensor in row.tensors()]),
        )
        self._sent.append(sent)
        return sent.parcel.nbytes + (layer.kept.nbytes if layer.kept is not None else 0)

    def _settle(self, wait: bool) -> None:
        """Take in samples, and hand over remains, whose numbers are on the host."""
        for layer in self._layers.values():
            while layer.under_way and (wait or layer.under_way[0].ready):
                self._store(layer, layer.under_way.pop(0).arrays()[0])
        for sent in [s for s in self._sent if wait or s.parcel.ready]:
            self._hand_over(sent)
        self._sent = [s for s in self._sent if not (wait or s.parcel.ready)]

    def _store(self, layer: _Layer, rows: NDArray[Any]) -> None:
        """Takes samples in: of data each new one stays with the same chance, of features the newest stay.

        Data comes again in every epoch; what is there already is not kept twice (algorithm R by Vitter).
        """
        if not layer.first or layer.kept is None or layer.kept.shape[1:] != rows.shape[1:]:
            layer.kept, layer.seen = rows[:0], 0
        if not layer.first:
            layer.kept = rows
            return
        rows = rows[[i for i, row in enumerate(rows) if layer.is_new(row)]]
        if not len(rows):
            return
        most = max(1, min(SAMPLES, LAYER_BYTES // max(1, rows[0].nbytes)))
        room = max(0, most - len(layer.kept))
        if room:
            layer.kept = np.concatenate([layer.kept, rows[:room]])
        later = rows[room:]
        counts = layer.seen + room + np.arange(len(later)) + 1
        places = (self._random.random(len(later)) * counts).astype(np.int64)
        chosen = places < len(layer.kept)
        layer.kept[places[chosen]] = later[chosen]
        layer.seen += len(rows)

    def _hand_over(self, sent: _Sent) -> None:
        arrays = iter(sent.parcel.arrays())
        parts = tuple(row.to_part(lambda _: next(arrays)) for row in sent.rows)
        layer = sent.layer
        empty = np.zeros((0, sum(p.values.shape[1] for p in parts if p.name == "weight")), np.float32)
        remains = Remains(
            path=layer.path,
            units=sent.units,
            step=sent.step,
            parts=parts,
            features=layer.kept if layer.kept is not None else empty,
            first_layer=layer.first,
            samples_seen=max(sent.samples_seen, 0 if layer.kept is None else len(layer.kept)),
            threshold=layer.threshold,
        )
        facts, arrays_of = preserve(remains)
        layer.began = sent.step if layer.began < 0 else layer.began
        self._sink.exhibit(KIND, layer.path, layer.began, facts | {"silent": sent.silent}, arrays_of)


def _silent(state: UnitState) -> int:
    """Units that have been silent for long enough to be taken for dead."""
    return int(np.count_nonzero(state.last_step - state.last_alive >= SILENCE)) if state.steps else 0


def _owner(parameter: torch.Tensor, clocks: Iterable[Clock]) -> Clock | None:
    """The optimiser that owns a parameter; None if none does."""
    return next((clock for clock in clocks if id(parameter) in clock.names), None)


def _rows(
    name: str, parameter: torch.Tensor, units: NDArray[np.int64], owner: Clock | None, at_step: bool
) -> Rows:
    """A parameter's rows."""
    # Between steps most scripts set gradients to None: only at a step is one that is missing really none.
    none = parameter.grad is None if at_step else not parameter.requires_grad
    optimizer = owner.optimizer if owner is not None else None
    return rows_of(name, parameter, send(units, parameter.device), optimizer, gradient_is_none=none)
