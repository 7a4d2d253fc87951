"""NaN or infinity: where it entered first, and on which step.

## What it measures

The first event at which a number was not finite, in the order data, forward, loss, backward,
update; and the stream of losses, which is complete even where no event was seen. From the place of
the first one follows the cause, since everything after it is a consequence.

## Why it hurts

NaN spreads to every weight in one update. From then on nothing is learned and nothing can be.

## Causes

- `non-finite-data`: the input batch already held NaN or infinity (missing values, a division in
  preprocessing).
- `non-finite-forward`: inputs and weights were finite and a result was not: overflow, 0/0, a
  logarithm of 0.
- `non-finite-loss`: the model's output was finite and the loss was not.
- `non-finite-backward`: the loss was finite and a gradient was not (the root of 0, 0 times
  infinity).
- `non-finite-update`: gradients were finite and the weights after the step were not (Adam's eps
  rounded to 0 in float16, a learning rate that overflows).

## Prognosis

None once a weight is NaN: every later number is. Steps that a GradScaler skips, or a guard of the
user's own, leave the weights as they were.

## Example

`sqrt` of a squared distance that becomes 0: the loss is finite on step 0, the gradient of the root
is infinite, and from step 1 on all weights are NaN. The finding names step 0, the backward pass and
the operation.

## False alarms

A GradScaler that starts too high skips a few steps with infinite gradients: that is its search for
a scale, and is information. A single bad batch after which the loss is finite again is a warning,
not an error.

## References

- Micikevicius et al.: Mixed Precision Training (2018).
- Goldberg: What Every Computer Scientist Should Know About Floating-Point Arithmetic (1991).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.optimizer import Optimizer
from defib.core.run import Event, RunView
from defib.diagnosis.cases import Plan, broken_loss, falling_loss, norms_of, run_of
from defib.diagnosis.rule import Case, Consequence, Expected, Rule

_STAGES = {
    "data": Cause.NON_FINITE_DATA,
    "forward": Cause.NON_FINITE_FORWARD,
    "loss": Cause.NON_FINITE_LOSS,
    "backward": Cause.NON_FINITE_BACKWARD,
    "update": Cause.NON_FINITE_UPDATE,
}
"""Stages of one step in the order in which they happen, and the cause that each stands for."""

_WORDS = {
    "data": "what enters the network holds NaN or infinity (the data, or what is done to it before)",
    "forward": "the forward pass makes NaN or infinity out of finite inputs",
    "loss": "the loss is NaN or infinite",
    "backward": "the backward pass makes NaN or infinite gradients out of a finite loss",
    "update": "the update makes weights NaN or infinite although the gradients were finite",
}


@dataclass(frozen=True, kw_only=True)
class _Origin:
    """The first place that was not finite."""

    step: int
    stage: str
    where: str
    operation: str
    seen: bool


def _bad(step: int, stage: str, where: str = "", operation: str = "") -> Event:
    """An event as capture records it."""
    return Event(
        step=step,
        kind="non-finite",
        data={"stage": stage, "where": where, "operation": operation, "step": step},
    )


class NonFinite(Rule):
    """NaN or infinity, traced to its first place."""

    slug = "non-finite"
    fault = Fault.NON_FINITE
    title = "NaN or infinity, traced to the first place and step"
    rank = 30
    causes = tuple(_STAGES.values())
    faults = MappingProxyType({Cause.NON_FINITE_DATA: Fault.LABEL_OR_DATA_BUG})
    consequences = tuple(
        Consequence(rule=slug, delay=delay, why="NaN spreads to everything that is computed later")
        for slug, delay in (
            ("dead-unit", 0),
            ("saturated-unit", 0),
            ("vanishing-gradient", 0),
            ("exploding-gradient", 1),
            ("lr-too-high", 1),
            ("constant-predictor", -1),
        )
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        origin = _origin(run)
        if origin is None:
            return
        severity, more = _severity(run, origin)
        place = f" in {origin.where}" if origin.where else ""
        by = f" ({origin.operation})" if origin.operation else ""
        yield Finding(
            rule=self.slug,
            fault=self.fault_of(_STAGES[origin.stage]),
            severity=severity,
            confidence=Confidence.EXACT if origin.seen else Confidence.INFERRED,
            layer=origin.where,
            since_step=max(origin.step, 0),
            cause=_STAGES[origin.stage],
            message=f"{_WORDS[origin.stage]}, first at step {max(origin.step, 0)}{place}{by}",
            evidence=(Evidence(name="first step", value=max(origin.step, 0), unit="step"), *more),
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="missing values in the data",
            build=lambda: run_of(
                Plan(path="fc1"), loss=broken_loss(at=7), events=(_bad(7, "loss"), _bad(7, "data"))
            ),
            expect=(Expected(cause=Cause.NON_FINITE_DATA, severity=Severity.ERROR, since_step=7),),
        ),
        Case(
            name="a root of zero in the backward pass",
            build=lambda: run_of(
                Plan(path="fc1"),
                loss=broken_loss(at=1),
                events=(_bad(0, "backward", "fc1", "SqrtBackward0"), _bad(1, "forward", "fc1")),
            ),
            expect=(
                Expected(cause=Cause.NON_FINITE_BACKWARD, severity=Severity.ERROR, layer="fc1", since_step=0),
            ),
        ),
        Case(
            name="a gradient of NaN that was noticed by the weight that it broke",
            build=lambda: run_of(
                Plan(path="fc1"),
                loss=broken_loss(at=1),
                norms=norms_of({"pool.p": np.full(3, np.nan)}),
                events=(_bad(0, "update", "pool.p"),),
            ),
            expect=(Expected(cause=Cause.NON_FINITE_BACKWARD, severity=Severity.ERROR, layer="pool.p"),),
        ),
        Case(
            name="only the stream of losses shows it",
            build=lambda: run_of(Plan(path="fc1"), loss=broken_loss(at=50)),
            expect=(Expected(cause=Cause.NON_FINITE_LOSS, severity=Severity.ERROR, since_step=50),),
        ),
        Case(
            name="one bad batch, then the loss is finite again",
            build=lambda: run_of(Plan(path="fc1"), loss=_one_bad(), events=(_bad(30, "data"),)),
            expect=(Expected(cause=Cause.NON_FINITE_DATA, severity=Severity.WARNING, since_step=30),),
        ),
        Case(
            name="a GradScaler looks for its scale",
            build=lambda: run_of(
                Plan(path="fc1"),
                events=(
                    _bad(0, "backward", "fc1"),
                    Event(step=0, kind="skipped-step", data={}),
                ),
                scale=np.full(200, 1024.0),
            ),
            expect=(Expected(cause=Cause.NON_FINITE_BACKWARD, severity=Severity.INFO, since_step=0),),
        ),
        Case(name="all numbers are finite", build=lambda: run_of(Plan(path="fc1"))),
        Case(
            name="a skipped step without anything else",
            build=lambda: run_of(Plan(path="fc1"), events=(Event(step=3, kind="skipped-step", data={}),)),
        ),
    )


def _one_bad() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A falling loss with one NaN at step 30."""
    loss = falling_loss()
    loss[30] = np.nan
    return loss


def _origin(run: RunView) -> _Origin | None:
    """The first place that was not finite: earliest step, then earliest stage."""
    order = list(_STAGES)
    found = [
        _Origin(
            step=event.step,
            stage=_stage(run, event),
            where=str(event.data.get("where") or ""),
            operation=str(event.data.get("operation") or ""),
            seen=True,
        )
        for event in run.of_kind("non-finite")
        if event.data.get("stage") in _STAGES
    ]
    for optimizer in run.optimizers:
        step = _first_bad_loss(optimizer)
        if step is not None:
            found.append(_Origin(step=step, stage="loss", where="", operation="", seen=False))
    return min(found, key=lambda o: (o.step, order.index(o.stage), not o.seen), default=None)


def _stage(run: RunView, event: Event) -> str:
    """The stage that capture saw, unless the sizes of that step show an earlier one.

    A NaN gradient of a parameter is seen on every step only where it is one of a layer's units; of
    others the broken weight is seen first, and their gradient's size tells that it was there before.

    Returns:
        A key of ``_STAGES``.
    """
    stage, norms = str(event.data["stage"]), run.norms
    if stage != "update" or norms is None:
        return stage
    rows = norms.steps == max(event.step, 0)
    read = np.isfinite(norms.weight[rows])
    return "backward" if bool((read & ~np.isfinite(norms.gradient[rows])).any()) else stage


def _first_bad_loss(optimizer: Optimizer) -> int | None:
    """First step whose loss is not finite."""
    bad = np.flatnonzero(~np.isfinite(optimizer.loss.values))
    return int(optimizer.loss.steps[bad[0]]) if len(bad) else None


def _severity(run: RunView, origin: _Origin) -> tuple[Severity, tuple[Evidence, ...]]:
    """Whether the run came back from it, and the numbers that say so."""
    losses = [o.loss for o in run.optimizers if len(o.loss)]
    bad = sum(int((~np.isfinite(loss.values)).sum()) for loss in losses)
    total = sum(len(loss) for loss in losses)
    evidence = (Evidence(name="steps with a non-finite loss", value=bad, unit="steps"),) if losses else ()
    ended_well = bool(losses) and all(np.isfinite(loss.values[-1]) for loss in losses) and bad < total / 2
    later = max((int(loss.steps[-1]) for loss in losses), default=-1) > origin.step
    if not (ended_well and later):
        return Severity.ERROR, evidence
    scaled = any(len(o.scale) for o in run.optimizers)
    skipped = len(run.of_kind("skipped-step"))
    if skipped:
        evidence = (*evidence, Evidence(name="steps skipped by the scaler", value=skipped, unit="steps"))
    searching = scaled and origin.stage == "backward" and bad == 0 and skipped < run.steps / 2
    return (Severity.INFO if searching else Severity.WARNING), evidence
