"""What was not seen, and why: silence is never health.

## What it measures

Whether there is anything to judge at all: optimiser steps, gradients, readings; and whether parts
of the model ran where defib cannot look, or defib switched itself off.

## Why it hurts

A report without findings reads as "healthy". If nothing was seen it means nothing, so an empty
record is an error of its own and never a clean bill of health.

## Causes

- `no-step`: no optimiser step was seen: the script stopped before it trained, updates its weights
  by hand, or its optimiser is no subclass of `torch.optim.Optimizer`.
- `no-data`: steps were seen, but neither gradients nor activations of any layer.
- `too-short`: fewer than 20 steps were seen. Whether anything is learned cannot be told from so few
  losses, and a unit that is silent for so few batches is not called dead. What harms at once (a loss
  that is no number, a gradient that is cut off) is found all the same.
- `not-visible`: parts of the model run inside `torch.compile` or another region that hides its
  activations; only gradients of parameters are judged there. If all of it does, nothing is healthy.
- `watcher-fault`: defib switched itself off after faults of its own; what came later was not seen.

## Prognosis

It stays so until the cause is removed.

## Example

A script whose data set is empty ends without an error after zero steps. The finding says that no
optimiser step was seen, and the verdict is `not-observed`.

## False alarms

Layers that a model never calls, frozen layers and modules without parameters are listed in the
coverage and are no finding.

## References

- awslabs/sagemaker-debugger and its users: a rule that found no data ended green
  (amazon-sagemaker-examples#2746).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from defib.core.cause import Cause, Fault
from defib.core.coverage import Coverage
from defib.core.evidence import Evidence, Unseen
from defib.core.finding import Confidence, Finding, Severity
from defib.core.run import Event, RunView
from defib.diagnosis.cases import Plan, flat_loss, run_of
from defib.diagnosis.coverage import coverage, layers_read
from defib.diagnosis.measures.learning import SHORTEST, Outcome, learning
from defib.diagnosis.rule import Case, Expected, Rule


class NotObserved(Rule):
    """Nothing, or not everything, was seen."""

    slug = "not-observed"
    fault = Fault.HEALTHY
    """No fault of the network is claimed; the verdict says that nothing is known."""
    title = "nothing, or not everything, was seen"
    rank = 0
    causes = (Cause.NO_STEP, Cause.NO_DATA, Cause.TOO_SHORT, Cause.NOT_VISIBLE, Cause.WATCHER_FAULT)

    def check(self, run: RunView) -> Iterable[Finding]:
        """One finding for each reason."""
        seen = coverage(run)
        faults = run.of_kind("watcher-fault")
        blind = run.steps == 0 or seen.observed == 0
        if faults:
            yield self._fault(faults, blind)
        if run.steps == 0:
            yield self._finding(
                Cause.NO_STEP, Severity.ERROR, "no optimiser step was seen, so nothing can be judged", ()
            )
        elif seen.observed == 0 and layers_read(run):
            reasons = _reasons(seen) or "no module owns them"
            yield self._finding(
                Cause.NOT_VISIBLE,
                self._harm(run),
                "no layer was seen at work, only gradients of parameters: " + reasons,
                (Evidence(name="layers not seen", value=seen.layers, unit="layers"),),
            )
        elif seen.observed == 0:
            some = run.norms is not None and len(run.norms.steps) > 0
            but = ", only gradients of parameters that belong to no layer (copies of weights?)"
            yield self._finding(
                Cause.NO_DATA,
                self._harm(run),
                f"{run.steps} steps were counted, but no gradient and no activation of any layer was seen"
                + (but if some else ""),
                (Evidence(name="steps", value=run.steps, unit="steps"),),
            )
        elif run.steps < SHORTEST and learning(run).outcome is Outcome.UNKNOWN:
            yield self._finding(
                Cause.TOO_SHORT,
                Severity.INFO,
                f"only {run.steps} step{'s were' if run.steps > 1 else ' was'} seen: whether the network "
                f"learns cannot be told from fewer than {SHORTEST}",
                (Evidence(name="steps", value=run.steps, unit="steps"),),
            )
        compiled = run.of_kind("compiled")
        if compiled and not blind:
            inside = [str(path) for event in compiled for path in event.data.get("layers", ())]
            yield self._finding(
                Cause.NOT_VISIBLE,
                Severity.INFO,
                "activations inside a compiled region cannot be seen; only its gradients are judged",
                (Evidence(name="compiled layers", value=len(inside), unit="layers"),),
                layer=inside[0] if inside else "",
            )

    @staticmethod
    def _harm(run: RunView) -> Severity:
        """An error says that a run cannot reach its goal: of one whose loss falls that is not known."""
        return Severity.INFO if learning(run).outcome is Outcome.LEARNING else Severity.ERROR

    def _fault(self, faults: tuple[Event, ...], blind: bool) -> Finding:
        """The finding for faults of defib's own."""
        off = any(event.data.get("off", True) for event in faults)
        why = str(faults[0].data.get("error") or "unknown")
        harm = Severity.WARNING if off else Severity.INFO
        what = "defib switched itself off; later steps were not seen" if off else "some readings failed"
        return self._finding(
            Cause.WATCHER_FAULT,
            Severity.ERROR if blind else harm,
            f"{what}: {why}",
            (Evidence(name="faults", value=len(faults), unit="faults"),),
            since=max(faults[0].step, 0),
        )

    def _finding(
        self,
        cause: Cause,
        severity: Severity,
        message: str,
        evidence: tuple[Evidence, ...],
        *,
        layer: str = "",
        since: int | None = None,
    ) -> Finding:
        """The finding for one reason."""
        return Finding(
            rule=self.slug,
            fault=self.fault,
            severity=severity,
            confidence=Confidence.EXACT,
            layer=layer,
            since_step=since,
            cause=cause,
            message=message,
            evidence=evidence,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a script that never trains",
            build=lambda: RunView(facts={"status": "finished"}),
            expect=(Expected(cause=Cause.NO_STEP, severity=Severity.ERROR),),
        ),
        Case(
            name="steps, and nothing else",
            build=lambda: RunView(facts={}, optimizers=run_of(Plan(path="fc1"), loss=flat_loss()).optimizers),
            expect=(Expected(cause=Cause.NO_DATA, severity=Severity.ERROR),),
        ),
        Case(
            name="nothing but steps and a loss that falls: that it cannot reach its goal is not known",
            build=lambda: RunView(facts={}, optimizers=run_of(Plan(path="fc1")).optimizers),
            expect=(Expected(cause=Cause.NO_DATA, severity=Severity.INFO),),
        ),
        Case(
            name="ten steps without a finding are no health",
            build=lambda: run_of(Plan(path="fc1"), loss=flat_loss(10)),
            expect=(Expected(cause=Cause.TOO_SHORT, severity=Severity.INFO),),
        ),
        Case(
            name="a compiled part of a model",
            build=lambda: _compiled(run_of(Plan(path="fc1"), Plan(path="fc2")), "fc1"),
            expect=(Expected(cause=Cause.NOT_VISIBLE, severity=Severity.INFO, layer="fc1"),),
        ),
        Case(
            name="a model that is compiled as a whole is not healthy",
            build=lambda: _compiled(run_of(Plan(path="fc1"), readings=False), "fc1", "head"),
            expect=(Expected(cause=Cause.NOT_VISIBLE, severity=Severity.INFO),),
        ),
        Case(
            name="the watcher gave up",
            build=lambda: run_of(
                Plan(path="fc1"), events=(Event(step=5, kind="watcher-fault", data={"error": "boom"}),)
            ),
            expect=(Expected(cause=Cause.WATCHER_FAULT, severity=Severity.WARNING, since_step=5),),
        ),
        Case(
            name="one reading failed and the rest went on",
            build=lambda: run_of(
                Plan(path="fc1"),
                events=(Event(step=-1, kind="watcher-fault", data={"error": "boom", "off": False}),),
            ),
            expect=(Expected(cause=Cause.WATCHER_FAULT, severity=Severity.INFO, since_step=0),),
        ),
        Case(name="everything was seen", build=lambda: run_of(Plan(path="fc1"))),
    )


def _reasons(seen: Coverage) -> str:
    """Why no layer was seen."""
    return "; ".join(dict.fromkeys(unseen.why for unseen in seen.not_observed))


def _compiled(run: RunView, *paths: str) -> RunView:
    """The run as it is recorded if these layers are compiled."""
    return replace(
        run,
        unseen=tuple(Unseen(what=path, why="runs inside torch.compile") for path in paths),
        events=(Event(step=-1, kind="compiled", data={"layers": list(paths)}),),
    )
