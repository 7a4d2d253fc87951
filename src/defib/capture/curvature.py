"""For ``--curvature``: has the largest curvature of a batch's loss measured, where that harms nobody.

Right before the user's own backward the graph is whole. On some steps it is looked through for
whatever a pass of our own would disturb (``capture.twice``); if there is nothing, a function that capture
knows nothing of is given the loss and the parameters. What comes back counts only if the optimiser then
is given the gradient of that very loss. Nothing here raises into training.
"""

import math
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch

from defib.capture import twice
from defib.capture.clock import Clock
from defib.capture.governor import Governor
from defib.capture.scaling import factor
from defib.capture.secant import sampled
from defib.capture.stepping import Stepping, stepping
from defib.core.ports import Sink
from defib.core.precision import single
from defib.core.sharpness import FACTS, SHARPNESS_COLUMNS, Declined, Survey, Surveyed, Surveyor
from defib.torchgraph.nodes import Node, collect, is_leaf

SECONDS, SHARE = 2.0, 0.05
"""Time for measuring: so much at the start, and that share of the run; other budgets stay as they are."""

_MOST_FAULTS = 3
_MOST_REFUSALS = 3
"""So many steps in a row that could not be measured, and the rest of the run is not asked either."""

_SAME = 1e-3
"""Gradients further apart than this share of their size are not of one loss."""


@dataclass(frozen=True, kw_only=True)
class _Pending:
    """A measurement whose step has not come yet."""

    step: int
    surveyed: Surveyed
    how: Stepping
    gradient: torch.Tensor
    identity: tuple[int, ...]


class Curvatures:
    """All of it for one watch.

    Args:
        sink: Takes the numbers.
        survey: Measures.
        every: Measure on every N-th step, whatever it takes; None to keep to :data:`SHARE`.

    Attributes:
        measured: Measurements that counted.
        why_off: Why there are no more; "" while there are.
    """

    def __init__(self, sink: Sink, survey: Surveyor, every: int | None = None) -> None:
        self.measured = 0
        self.why_off = ""
        self.skipped: dict[str, int] = {}
        self._sink, self._survey = sink, survey
        self._governor = Governor(SHARE, every, allowance=SECONDS, free=1)
        self._pending: _Pending | None = None
        self._asked, self._due = -1, False
        self._before: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)
        self._identity: tuple[int, ...] = ()
        self._latest: dict[str, Any] = {}
        self._faults = self._refusals = 0
        self._last = perf_counter()

    def engage(self) -> None:
        """Begin."""
        twice.engage(self)
        self.tell()

    def close(self) -> None:
        """Let go of everything; again is harmless."""
        twice.release(self)
        self._pending = None
        self._before = (None, None)
        self.tell()

    def renew(self) -> None:
        """The network was changed on purpose: directions of before mean nothing."""
        self._pending = None
        self._before = (None, None)
        self._refusals = 0

    def stop(self, why: str) -> None:
        """No measurements from here on, and why."""
        if not self.why_off:
            self.why_off = why
            self._sink.event(-1, "curvature-off", {"why": why})
        self.close()

    def tell(self) -> None:
        """What can be known of all measurements together, for the record."""
        facts: dict[str, Any] = {
            "on": not self.why_off,
            "why_off": self.why_off,
            "measured": self.measured,
            "skipped": dict(self.skipped),
            "seconds": round(self._governor.spent, 6),
        }
        if self._latest:
            facts["last"] = self._latest
        self._sink.facts({FACTS: facts})

    # -- right before the user's backward ------------------------------------

    def backward_begins(self, tensors: tuple[torch.Tensor, ...], clocks: list[Clock]) -> float:
        """``backward`` was called and has not run yet.

        Args:
            tensors: On what.
            clocks: Optimisers that have stepped.

        Returns:
            Seconds that it took.
        """
        if self.why_off or not clocks:
            return 0.0
        start = perf_counter()
        try:
            self._begin(tensors, clocks)
        except Declined as reason:
            self._refuse(str(reason))
        except Exception as error:  # noqa: BLE001 - training goes on
            self._failed(error)
        return perf_counter() - start

    @np.errstate(all="ignore")  # whatever the script has asked numpy to do
    def _begin(self, tensors: tuple[torch.Tensor, ...], clocks: list[Clock]) -> None:
        living = [clock for clock in clocks if clock.alive]
        if len(living) > 1:
            self.stop("several optimisers: each moves the other's loss")
            return
        if not living:
            return
        clock, step = living[0], living[0].vitals.step
        if self._asked != step:
            self._asked, self._due = step, self._governor.due(step)
        if not self._due:
            return
        loss = _loss(tensors)
        nodes = [] if loss is None else collect([loss.grad_fn])
        leaves = _leaves(nodes, clock)
        if loss is None or not leaves:
            return  # a backward of something else; the one that trains may come yet
        self._due = False
        start = perf_counter()
        try:
            self._pending = self._measure(loss, nodes, leaves, clock)
        finally:
            self._governor.charge_reading(perf_counter() - start)

    def _measure(
        self, loss: torch.Tensor, nodes: list[Node], leaves: list[torch.Tensor], clock: Clock
    ) -> _Pending | None:
        optimizer = clock.optimizer
        if optimizer is None:
            return None
        objection = twice.objection(self, loss, leaves, nodes)
        if objection:
            raise Declined(objection)
        how = stepping(optimizer, leaves)
        identity = tuple(map(id, leaves))
        if identity != self._identity:
            self._identity, self._before = identity, (None, None)
        surveyed = self._survey(
            Survey(
                loss=loss,
                leaves=tuple(leaves),
                scale=_scale(loss, clock),
                weights=how.weights,
                decay=how.decay,
                sign=how.sign,
                before=self._before,
                saved=twice.kept_bytes(nodes),
            )
        )
        self._before = surveyed.after
        pairs = zip(surveyed.gradient, leaves, strict=True)
        gradient = sampled([torch.zeros_like(p) if g is None else g for g, p in pairs])
        step = clock.vitals.step
        return _Pending(step=step, surveyed=surveyed, how=how, gradient=gradient, identity=identity)

    # -- right before the step -------------------------------------------------

    def step(self, clock: Clock) -> float:
        """An optimiser is about to step; its count is one ahead by now.

        Returns:
            Seconds that it took.
        """
        start = perf_counter()
        if self.why_off:
            return 0.0
        pending, self._pending = self._pending, None
        try:
            if pending is not None and pending.step == clock.vitals.step - 1:
                self._conclude(clock, pending)
        except Declined as reason:
            self._refuse(str(reason))
        except Exception as error:  # noqa: BLE001
            self._failed(error)
        now = perf_counter()
        self._governor.step(now - self._last, 0.0)
        self._last = now
        return now - start

    @np.errstate(all="ignore")
    def _conclude(self, clock: Clock, pending: _Pending) -> None:
        """Write it, if the optimiser is given the gradient that the measurement was made of."""
        own = {id(p): p for p in clock.parameters()}
        given = [own[key].grad for key in pending.identity if key in own]
        if len(given) != len(pending.identity) or any(g is None for g in given):
            raise Declined("the optimiser was not given the gradient of this loss")
        with torch.no_grad():
            arrived = sampled(given) / clock.scale_on_gradients()
            size, product = float(arrived.norm()), float(arrived @ pending.gradient)
            square = float(pending.gradient.square().sum())
            reached = product / square if square > 0 else 1.0
            rest = float((arrived - reached * pending.gradient).norm())
        if not (rest <= _SAME * size and reached <= 1 + _SAME):  # NaN is no agreement
            raise Declined("the gradient at the step is not that of this loss alone")
        optimizer, how, found = clock.optimizer, pending.how, pending.surveyed
        rates = () if optimizer is None else tuple(float(g["lr"]) for g in optimizer.param_groups)
        if rates != how.rates:
            raise Declined("the learning rate was changed between backward and step")
        row = (
            found.largest, found.largest_error, found.product, found.product_error, found.along,
            how.bound, reached, float(found.products),
        )  # fmt: skip
        columns = dict(zip(SHARPNESS_COLUMNS, row, strict=True))
        self._sink.stream(clock.index, pending.step, {f"sharp.{k}": single([v]) for k, v in columns.items()})
        known = {name: value for name, value in columns.items() if math.isfinite(value)}
        self._latest = {"step": pending.step, **known}
        self.measured += 1
        self._refusals = 0
        self.tell()

    # -- what could not be done ------------------------------------------------

    def _refuse(self, why: str) -> None:
        self.skipped[why] = self.skipped.get(why, 0) + 1
        self._refusals += 1
        if self._refusals >= _MOST_REFUSALS:
            self.stop(why)
        self.tell()

    def _failed(self, error: Exception) -> None:
        self._faults += 1
        self._sink.event(-1, "curvature-fault", {"error": f"{type(error).__name__}: {error}"})
        if self._faults >= _MOST_FAULTS:
            self.stop(f"{self._faults} faults, the last one {type(error).__name__}: {error}")


def _loss(tensors: tuple[torch.Tensor, ...]) -> torch.Tensor | None:
    """The one number that backward was called on; None if it was not called on one."""
    if len(tensors) != 1 or tensors[0].numel() != 1 or tensors[0].grad_fn is None:
        return None
    loss = tensors[0]
    plain = type(loss) is torch.Tensor and not torch._C._functorch.is_functorch_wrapped_tensor(loss)
    return loss if plain and loss.is_floating_point() else None


def _leaves(nodes: list[Node], clock: Clock) -> list[torch.Tensor]:
    """The optimiser's parameters that a graph reaches."""
    children = (child for node in nodes for child, _ in node.next_functions if child is not None)
    below = {id(child.variable) for child in children if is_leaf(child)}
    return [p for p in clock.parameters() if id(p) in below]


def _scale(loss: torch.Tensor, clock: Clock) -> float:
    """What a gradient scaler multiplied the loss with."""
    known = factor(loss) if clock.has_scaler else None
    return 1.0 if known is None else float(known)
