"""Decides what to look at on which step, looks, and hands the numbers to the sink.

Four entry points are called by ``capture.taps``: around every ``backward`` and
around every optimiser step. On a step that is not read they do this much: keep
the loss, concatenate the bias gradients, look at the clock.
"""

from collections import deque
from collections.abc import Iterable
from math import isfinite
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn

from defib.capture.arrivals import Arrivals
from defib.capture.autopsy import Autopsies
from defib.capture.border import scalar
from defib.capture.clock import Clock
from defib.capture.clocks import Clocks
from defib.capture.curvature import Curvatures
from defib.capture.governor import Governor
from defib.capture.naming import Names
from defib.capture.objective import ObjectiveReading, leftover_of
from defib.capture.origin import blame
from defib.capture.reading import Collected, Reading
from defib.capture.remains import Custody
from defib.capture.scaling import Heard, Scalar, factor, known_skipped
from defib.capture.sizes import Sizes
from defib.capture.summary import Summary
from defib.capture.vitals import SILENCE
from defib.capture.walk import walk
from defib.core.ports import Sink
from defib.torchgraph.nodes import parameters_below

FLUSH_SECONDS = (0.5, 2.0)
"""Least and most time between two flushes; in between, one may take a third of the budget."""

LOOK_SECONDS = 0.001
"""Least time between two looks at the account: a step of a tiny network is shorter."""

_MOST_READ = 64
"""Backwards that are read before one step: more micro-batches, or steps that never come, cost nothing."""
_MOST_LOSSES = 4096
_IN_BACKWARD = -1
_graph_task = torch._C._current_graph_task_id  # see capture.taps for why it is looked up once
_quiet = np.errstate(all="ignore")
"""A script may have asked numpy to warn or to raise; that is not meant for what is counted in here."""


class Recorder:
    """Watches one run.

    Args:
        sink: Takes the numbers.
        roots: The models; empty to find them when they are first trained.
        optimizers: The optimisers to count; empty for all that step parameters of the models.
        budget: Share of the run's time that may be spent.
        every: Read every N-th step; None to let the budget decide.
        keep_inputs: Keep samples of what feeds a layer, for the prognosis of dead units.
    """

    def __init__(
        self,
        sink: Sink,
        roots: Iterable[nn.Module] = (),
        optimizers: Iterable[torch.optim.Optimizer] = (),
        budget: float = 0.01,
        every: int | None = None,
        keep_inputs: bool = True,
    ) -> None:
        self.names = Names(roots)
        self.governor = Governor(budget, every)
        self.summary = Summary(sink, self.names, budget)
        self._arrivals = Arrivals(self.summary, sink)
        self._sink = sink
        self._clocks = Clocks(self.names, optimizers)
        self._heard: deque[Heard] = deque(maxlen=_MOST_LOSSES)
        self._collected: list[tuple[Collected, Scalar | None]] = []
        self._objectives: list[tuple[ObjectiveReading, Scalar | None]] = []
        self._sizes = Sizes(self._arrivals)
        self._custody = Custody(sink, budget, samples=keep_inputs)
        self._stepping: Clock | None = None
        self.autopsies: Autopsies | None = None
        self.curvatures: Curvatures | None = None
        self._armed = True
        self._stepped: dict[int, Clock] = {}
        self._scale: Scalar | None = None
        self._leftover: torch.Tensor | None = None
        self._may_be_scaled = True
        self._reading_cost = 0.0
        self._cost = 0.0
        self._in_step = False
        self._next_look = 0.0
        self._sink_seconds = 0.0
        self._flush_seconds = FLUSH_SECONDS[0]
        self._last_step = self._last_flush = perf_counter()

    @property
    def steps(self) -> int:
        """Steps of the optimiser that took most."""
        return self._clocks.steps

    @_quiet
    def renew(self) -> None:
        """The network was changed by a treatment: look at it anew, at the next step."""
        self._drain(wait=True)
        self._arrivals.settle(wait=True)
        self.names.renew()
        self.summary.renew()
        self._custody.renew()
        self._sizes.renew()
        for clock in self._clocks.all:
            clock.planned = None
        self._collected.clear()
        self._objectives.clear()
        if self.autopsies is not None:
            self.autopsies.renew()
        if self.curvatures is not None:
            self.curvatures.renew()
        self._armed = True
        self._clocks.call_for_reading()

    # -- around backward ---------------------------------------------------

    def backward_begins(self, tensors: tuple[torch.Tensor, ...]) -> Reading | None:
        """``backward`` was called on these tensors and has not run yet."""
        start = perf_counter()
        nested = _graph_task() != _IN_BACKWARD
        first = bool(self._stepped) and not nested
        if first:
            self._leftover = None
            self._collected.clear()
            self._objectives.clear()
            self._heard.clear()
            self._stepped.clear()
        if self.curvatures is not None and not nested:  # before any hook of ours is in the graph
            taken = self.curvatures.backward_begins(tensors, self._clocks.all)
            self.governor.spent += taken  # asked for: not of the budget
            start += taken
        reading = None
        if self._armed and len(self._collected) < _MOST_READ:
            reading = self._read(tensors, nested, first)
            self._reading_cost += perf_counter() - start
        else:
            self._hear(tensors, nested)
            self._cost += perf_counter() - start
        return reading

    def _hear(self, tensors: tuple[torch.Tensor, ...], nested: bool) -> torch.Tensor | None:
        """Keep the loss, if ``backward`` was called on one; returns it."""
        if nested or len(tensors) != 1 or tensors[0].numel() != 1 or tensors[0].is_complex():
            return None
        tensor = tensors[0]
        loss = scalar(tensor)
        if self._may_be_scaled:
            self._scale = factor(tensor)
        self._heard.append((loss, self._scale))
        if isinstance(loss, float) and not isfinite(loss) and not self.summary.non_finite:
            self._blame(tensor)
        return tensor

    @_quiet
    def _read(self, tensors: tuple[torch.Tensor, ...], nested: bool, first: bool) -> Reading | None:
        """Walk the graph of what is being trained, and read it."""
        roots = [t.grad_fn for t in tensors if t.grad_fn is not None]
        self.names.complete()
        if not roots or (self._clocks.given and not self._concerns(roots)):
            return None
        loss = self._hear(tensors, nested)
        if not self._clocks.given:
            self.names.search(parameters_below(roots))
        graph = walk(roots, self.names)
        self.summary.saw(graph, self._clocks.steps)
        self._custody.sample(graph)
        if loss is not None and graph.reached:
            if first:  # of several backwards before one step only the first finds what a step left
                with torch.no_grad():
                    self._leftover = leftover_of(graph)
            self._objectives.append((ObjectiveReading(graph, loss, self._leftover), self._scale))
        return Reading(graph, preactivations=True)

    @_quiet
    def backward_ended(self, reading: Reading) -> None:
        """That backward has run."""
        start = perf_counter()
        for fault in reading.faults:
            raise fault
        self.summary.unread(reading.unread)
        self._collected.append((reading.collect(), self._scale))
        for clock in self._stepped.values():  # an optimiser inside backward is ahead of the reading
            self._attribute(clock)
        self._reading_cost += perf_counter() - start + reading.seconds

    def _concerns(self, roots: list[Any]) -> bool:
        return any(self.names.owner(p) is not None for p in parameters_below(roots))

    @_quiet
    def _blame(self, loss: torch.Tensor) -> None:
        """Find out where a non-finite loss came from while its graph is still there."""
        self._drain(wait=True)
        if self.summary.non_finite:
            return
        step = self._clocks.steps
        found = blame(loss, self.names)
        self.summary.found_non_finite(step - 1 if found["stage"] == "update" and step else step, found)

    # -- around an optimiser's step ------------------------------------------

    def step_begins(self, optimizer: torch.optim.Optimizer, uses_closure: bool) -> bool:
        """An optimiser is about to step; with a closure its gradients are not there yet.

        Returns:
            Whether :meth:`step_ended` has something to do; without it nobody need call that.
        """
        start = perf_counter()
        self._in_step = False
        clock = self._clocks.of(optimizer)
        if clock is None:
            if self._clocks.given and self._clocks.takes_any:
                self._heard.clear()  # a stranger steps: what was kept was the loss of its network
            return False
        self._in_step = self._armed or uses_closure
        if uses_closure:
            if self.autopsies is not None:
                self.autopsies.stop("the optimiser runs the model itself (closure): its steps are not apart")
            if self.curvatures is not None:
                self.curvatures.stop("the optimiser runs the model itself (closure)")
            return True
        if self._armed or clock.planned is None:
            self._plan(clock)
        clock.tick(optimizer, self._heard)
        self._stepped[clock.index] = clock
        if self.autopsies is not None:
            before = perf_counter()
            self.governor.spent += self.autopsies.step(clock, optimizer)  # asked for: not of the budget
            start += perf_counter() - before
        if self.curvatures is not None:
            taken = self.curvatures.step(clock)
            self.governor.spent += taken
            start += taken
        if self._sizes.secants.waiting:
            self._sizes.meet(clock)
        if self._armed:
            self._before_step(clock)
            self._reading_cost += perf_counter() - start
        elif start < self._next_look:
            self._cost += perf_counter() - start  # steps that take microseconds are settled many at a time
        else:
            self._conclude(clock, start)
        return self._in_step

    def step_ended(self, optimizer: torch.optim.Optimizer, uses_closure: bool) -> None:
        """It has stepped; all but a sampled step was concluded before it."""
        if not self._in_step:
            return
        start = perf_counter()
        clock = self._clocks.of(optimizer)
        if clock is None:
            return
        if uses_closure:
            self._plan(clock)
            clock.tick(optimizer, self._heard)
            self._stepped[clock.index] = clock
            self._attribute(clock)
        if self._armed:
            self._after_step(clock, start)
            start = perf_counter()
        self._conclude(clock, start)

    def _conclude(self, clock: Clock, start: float) -> None:
        """Flush if it is time, settle the account, and see whether to read the next step."""
        if start - self._last_flush > self._flush_seconds:
            self._stepping = None if self._in_step else clock
            self.flush()
            self._stepping = None
        elif clock.vitals.full:
            self._drain(wait=False, only=clock)
        now = perf_counter()
        self.governor.step(now - max(self._last_step, self._clocks.started), self._cost + now - start)
        self._cost, self._last_step = 0.0, now
        self._next_look = now + (0.0 if self.governor.every else LOOK_SECONDS)
        if not self._armed and self.governor.due(clock.vitals.step):
            self._armed = True
            self._clocks.call_for_reading()

    def _plan(self, clock: Clock) -> None:
        """Choose what is read of an optimiser's parameters, if that has changed."""
        if clock.planned is None or (self._armed and clock.planned != clock.shape(self.summary.feeding)):
            self._drain(wait=False, only=clock)
            clock.look_for_scaler()
            clock.plan(self.names, self.summary.feeding)
            self.summary.planned(clock)

    @_quiet
    def _before_step(self, clock: Clock) -> None:
        if not clock.has_scaler:
            clock.look_for_scaler()
        self._may_be_scaled = any(c.has_scaler for c in self._clocks.all)
        self._attribute(clock)
        self._sizes.before(clock)

    def _attribute(self, clock: Clock) -> None:
        """What the backwards since the last step showed belongs to the step just taken."""
        step = clock.vitals.step - 1
        scale = clock.scale()
        for part, at_backward in self._collected:
            if not (clock.has_scaler and known_skipped(at_backward, scale)):
                self._arrivals.reading(step, clock, part, clock.scales(at_backward))
                clock.samples += part.samples
        clock.batches += bool(self._collected)
        if clock.index == 0:
            for objective, at_backward in self._objectives:
                self._arrivals.objective(step, objective, clock.scales(at_backward))
        self._objectives.clear()

    @_quiet
    def _after_step(self, clock: Clock, start: float) -> None:
        """Finish a sampled step: update norms, numbers of earlier readings that have arrived."""
        self._sizes.after(clock)
        self._arrivals.settle(wait=False)
        if clock.vitals.waiting >= SILENCE:
            self._drain(wait=False, only=clock)  # units that fell silent are looked at again at once
            # A short run may be over, and its optimiser gone, before the next flush.
            self._custody.keep(self._clocks.all, self._stepping, last=False)
        self._clocks.was_read(clock)
        if self.governor.readings == 0:
            self.flush()
        self._reading_cost += perf_counter() - start
        self.governor.charge_reading(self._reading_cost)
        self._reading_cost = 0.0
        if not self._clocks.unread:
            self._armed = self.governor.every == 1

    # -- from numbers to the record -----------------------------------------

    @_quiet
    def _drain(self, wait: bool, only: Clock | None = None) -> None:
        for clock in [only] if only is not None else self._clocks.all:
            for drained in clock.vitals.drain(wait):
                streams, unheard = drained.streams, clock.unheard - drained.first_step
                if unheard > 0:
                    loss = streams.pop("loss")[unheard:]
                    if len(loss):
                        self._sink.stream(clock.index, drained.first_step + unheard, {"loss": loss})
                self._sink.stream(clock.index, drained.first_step, streams)
                for step, count in drained.skips.items():
                    self.summary.skipped(step, count, ())
                if drained.silenced:
                    self.governor.boost()
                if drained.bad is not None:
                    self.summary.bad_gradient(clock, *drained.bad)

    @_quiet
    def flush(self, wait: bool = False) -> None:
        """What has been seen goes to the sink.

        Args:
            wait: Also what is still on a device; otherwise it comes with a later flush.
        """
        self._drain(wait)
        self._arrivals.settle(wait)
        start = self._last_flush = perf_counter()
        written = self._sink.seconds - self._sink_seconds  # by the flush before this one
        self._cost += written
        self._sink_seconds += written
        elapsed = self._last_step - self._clocks.started
        clocks = self._clocks.all
        everything = self.summary.flush(clocks, self.governor, elapsed, last=wait)
        self._custody.keep(clocks, self._stepping, last=wait)
        for index in self._clocks.retire() if everything else ():
            self._sizes.forget(index)
            if self.autopsies is not None:
                self.autopsies.forget(index)
        cost = written + perf_counter() - start
        shortest, longest = FLUSH_SECONDS
        self._flush_seconds = min(max(shortest, 3 * cost / max(self.governor.budget, 1e-6)), longest)

    def close(self) -> None:
        """Flush for the last time and let go of everything of the user's."""
        self.flush(wait=True)
        self._clocks.clear()
        self._stepped.clear()
        self._collected.clear()
        self._sizes.clear()
