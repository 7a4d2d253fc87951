"""What has been learnt about the run so far, and how it is put into the record."""

from dataclasses import replace
from time import monotonic
from typing import Any

import numpy as np

from defib.capture.border import Numbers
from defib.capture.clock import Clock
from defib.capture.confusion import Confusion
from defib.capture.governor import Governor
from defib.capture.graph import COMPILED, Walk
from defib.capture.naming import Names
from defib.capture.objective import ObjectiveReading
from defib.capture.tokens import Tokens
from defib.capture.windows import Windows
from defib.core.objective import OBJECTIVE_COLUMNS
from defib.core.ports import Sink
from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.core.wiring import Wiring

_MOST_SKIP_EVENTS = 100
_SHARE_MOVED = 0.05
"""A dropout is told again only if its share has changed by more: schedules move it on every step."""
_LIVENESS_BYTES_A_SECOND = 1 << 20
"""Liveness is written again no faster than this."""


class Summary:
    """Layers, wiring, coverage and events of one run.

    Args:
        sink: Takes it all.
        names: Names of parameters.
        budget: Share of the run's time that may be spent; goes into the record.
    """

    def __init__(self, sink: Sink, names: Names, budget: float) -> None:
        self.non_finite = False
        self.faults = 0
        self._sink = sink
        self._names = names
        self._budget = budget
        self._windows = Windows()
        self._confusion = Confusion(sink)
        self._tokens = Tokens(sink)
        self._wirings: dict[Site, Wiring] = {}
        self._reached: set[str] = set()
        self._opaque: dict[str, str] = {}
        self._cuts: set[tuple[str, str]] = set()
        self._dropped: dict[str, float] = {}
        self._unread: dict[Site, str] = {}
        self._loss_operations: tuple[str, ...] = ()
        self._owner: dict[str, int] = {}
        self._samples = 0
        self._skips = 0
        self._changed = True
        self._next_liveness = 0.0

    @property
    def feeding(self) -> frozenset[str]:
        """Layers that an activation follows, other than one that shapes the model's output."""
        return frozenset(w.site.path for w in self._wirings.values() if not w.output)

    @property
    def sites(self) -> frozenset[Site]:
        """Every site at which an activation was seen."""
        return frozenset(self._wirings)

    def saw(self, graph: Walk, step: int = 0) -> None:
        """The graph of one backward was walked, before the step ``step``."""
        for operation, path in sorted(graph.cuts - self._cuts):
            self._sink.event(step, "cut", {"operation": operation, "layer": path})
        self._cuts |= graph.cuts
        for path, share in sorted(graph.dropped.items()):
            if abs(share - self._dropped.get(path, 0.0)) > _SHARE_MOVED:
                self._sink.event(step, "dropout", {"layer": path, "share": round(share, 4)})
                self._dropped[path] = share
        new = {t.wiring.site: t.wiring for t in graph.taps if t.wiring.site not in self._wirings}
        if new or not graph.reached <= self._reached:
            self._wirings.update(new)
            self._reached |= graph.reached
            self._changed = True
        compiled = {p for p, why in graph.opaque.items() if why == COMPILED and p not in self._opaque}
        if compiled:
            self._sink.event(-1, "compiled", {"layers": sorted(compiled)})
        self._opaque.update(graph.opaque)
        if graph.loss_operations and not self._loss_operations:
            self._loss_operations = graph.loss_operations
            self._changed = True

    def renew(self) -> None:
        """The network was changed: its wiring is seen anew, and readings of before stay apart."""
        self._windows.cut(self._sink)
        self._wirings, self._reached, self._opaque, self._unread = {}, set(), {}, {}
        self._loss_operations = ()
        self.non_finite = False  # what breaks after a treatment is news
        self._changed = True

    def unread(self, sites: dict[Site, str]) -> None:
        """Activations whose forward side could not be read, and why."""
        self._unread.update(sites)

    def planned(self, clock: Clock) -> None:
        """It is known which layers an optimiser owns."""
        self._sink.optimizer(clock.index, clock.facts())  # it may be gone before the next flush
        self._owner.update(dict.fromkeys(clock.paths, clock.index))
        self._changed = True

    def readings(self, merged: dict[tuple[int, Site, Signal], Tally]) -> None:
        """Numbers of sampled steps have arrived."""
        flow: dict[int, dict[tuple[Site, Signal], float]] = {}
        for (step, site, signal), tally in merged.items():
            if self._windows.due_before(step):
                self._windows.write(self._sink, even_if_early=True)
            self._windows.add(step, site, signal, tally)
            flow.setdefault(step, {})[site, signal] = tally.rms
        for step, values in flow.items():
            self._samples += max(t.samples for (s, _, _), t in merged.items() if s == step)
            self._sink.flow(step, values)

    def objectives(
        self, waiting: list[tuple[int, ObjectiveReading, Numbers]], wait: bool
    ) -> list[tuple[int, ObjectiveReading, Numbers]]:
        """What the loss compared, as far as it has arrived; returns what has not."""
        for step, objective, scales in [w for w in waiting if wait or _arrived(w)]:
            facts = {
                "operation": objective.operation,
                "output_layer": objective.output_layer,
                "input_layer": objective.input_layer,
            }
            at_backward, scale = scales.array().tolist()
            if at_backward > scale:  # its step was skipped
                continue
            values = objective.columns
            values[OBJECTIVE_COLUMNS.index("loss")] /= scale
            self._sink.objective(step, facts, values)
            table = objective.table
            if table is not None:
                self._confusion.add(step, objective.output_layer, table)
            if objective.token is not None:
                self._tokens.add(objective.input_layer, *objective.token)
        return [w for w in waiting if not (wait or _arrived(w))]

    def found_non_finite(self, step: int, found: dict[str, Any]) -> None:
        """The first NaN or infinity of the run; later ones are its consequences."""
        if not self.non_finite:
            self.non_finite = True
            self._sink.event(step, "non-finite", {"loss_operations": list(self._loss_operations), **found})

    def bad_gradient(self, clock: Clock, step: int, layers: tuple[str, ...]) -> None:
        """A gradient was not finite: a skipped step if a GradScaler is there to catch it."""
        if clock.has_scaler:
            self.skipped(step, 1, layers)
        elif not self.non_finite:
            last = self._last_in_flow(layers)
            self.found_non_finite(step, {"stage": "backward", "where": last, "operation": ""})

    def skipped(self, step: int, count: int, layers: tuple[str, ...]) -> None:
        """A GradScaler skipped ``count`` steps, at or just before ``step``: information, not a fault."""
        self._skips += 1
        if self._skips <= _MOST_SKIP_EVENTS:
            self._sink.event(step, "skipped-step", {"layers": list(layers), "steps": count})

    def _last_in_flow(self, layers: tuple[str, ...]) -> str:
        """The layer nearest the loss: the backward pass broke there, or above it."""
        order = {layer.path: i for i, layer in enumerate(self._names.layers())}
        return max(layers, key=lambda path: order.get(path, -1), default="")

    def flush(self, clocks: list[Clock], governor: Governor, elapsed: float, last: bool) -> bool:
        """What changed goes to the sink; large things now and then only, unless it is the last time.

        Returns:
            Whether all that is known of the units' liveness was among it.
        """
        if self._changed:
            layers = [replace(x, optimizer=self._owner.get(x.path, -1)) for x in self._names.layers()]
            self._sink.layers(tuple(layers))
            ordered = sorted(self._wirings.values(), key=lambda w: w.order)
            self._sink.wirings(tuple(ordered), self._loss_operations)
            self._changed = False
        self._windows.write(self._sink, even_if_early=last)
        self._confusion.write()
        self._tokens.write()
        now = monotonic()
        everything = last or now >= self._next_liveness
        if everything:
            units = sum(len(state.alive_steps) for c in clocks for state in c.vitals.states.values())
            self._next_liveness = now + 12 * units / _LIVENESS_BYTES_A_SECOND
            for clock in clocks:
                self._liveness(clock)
        for clock in clocks:
            self._sink.optimizer(clock.index, clock.facts())
        self._sink.facts(self._facts(governor, elapsed))
        return everything

    def _liveness(self, clock: Clock) -> None:
        batch = clock.samples / clock.batches if clock.batches else 0.0
        sources = {t.path: t.source for t in clock.vitals.targets}
        for path, state in clock.vitals.states.items():
            facts = {
                "source": sources.get(path, ""),
                "steps": state.steps,
                "last_step": state.last_step,
                "period": 1,
                "batch": batch,
                "lengths": state.episodes.lengths.tolist(),
            }
            past = state.episodes
            units = np.stack(
                [state.first_alive, state.last_alive, state.alive_steps, past.returns, past.silent]
            )
            self._sink.liveness(clock.index, path, facts, units)

    def _facts(self, governor: Governor, elapsed: float) -> dict[str, Any]:
        return {
            "overhead": {
                "ratio": governor.spent / elapsed if elapsed > 0 else None,
                "seconds": governor.spent,
                "budget": self._budget,
                "every": governor.every,
                "period": governor.period,
                "readings": governor.readings,
            },
            "samples": self._samples,
            "faults": self.faults,
            "unseen": self._unseen(),
        }

    def _unseen(self) -> list[dict[str, str]]:
        """Layers of which nothing, or not the inside, was seen, and why."""
        reasons: dict[str, str] = {}
        for layer in self._names.layers():
            if layer.path in self._opaque:
                reasons[layer.path] = self._opaque[layer.path]
            elif layer.frozen:
                reasons[layer.path] = "frozen: no parameter of it requires a gradient"
            elif layer.path not in self._reached:
                reasons[layer.path] = "no backward was seen to reach it"
        for site, why in self._unread.items():
            reasons.setdefault(site.path, why)
        return [{"what": path, "why": why} for path, why in reasons.items()]


def _arrived(waiting: tuple[int, ObjectiveReading, Numbers]) -> bool:
    return waiting[1].ready and waiting[2].ready
