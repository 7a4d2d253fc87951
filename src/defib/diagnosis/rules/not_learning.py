"""The loss says that nothing is learned, and no rule knows why.

## What it measures

Whether the loss fell, and where it lies against that of the best constant answer: the same answer
that every other rule asks for. It speaks up only where no other rule has a warning or worse.

## Why it hurts

A report without findings reads as "healthy". A run of which it was measured that it learns nothing
is not healthy, whether or not its cause is known.

## Causes

- `cause-not-found`: the loss is no better than the best constant's, or is the same to the last bit on
  every step, and none of the causes that defib looks for was found. The evidence says what is known.

## Prognosis

Unknown, as the cause is.

## Example

A dropout layer keeps a tenth of its units in each of four layers. Gradients arrive, units live, the
steps are of ordinary size, and the loss stays at ln 10.

## False alarms

A loss that does not fall proves nothing where its level means nothing (policy gradients, losses
with terms that work against each other, a run that goes on from where it had converged). Without
the level of a constant to compare with, or a loss that never changes at all, this is information,
and the verdict is `not-observed`: whether it learns could not be seen.

## References

- None; it is the rest.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.run import RunView
from defib.diagnosis.case_parts import CLASSES, objective_of
from defib.diagnosis.cases import Plan, falling_loss, flat_loss, run_of
from defib.diagnosis.measures.answer import answer
from defib.diagnosis.measures.consecutive import consecutive
from defib.diagnosis.measures.learning import Outcome
from defib.diagnosis.measures.pace import pace
from defib.diagnosis.measures.standstill import unchanged
from defib.diagnosis.rule import Case, Expected, Limit, Rule


class NotLearning(Rule):
    """A run that learns nothing, for whatever reason."""

    slug = "not-learning"
    fault = Fault.HEALTHY
    """No fault of the vocabulary is claimed: which one it is was not found."""
    title = "the loss says that nothing is learned, and the cause was not found"
    rank = 98
    last_resort = True
    causes = (Cause.CAUSE_NOT_FOUND,)
    limits = (
        Limit(
            name="steps",
            default=100,
            unit="steps",
            meaning="fewest steps after which a loss that has not moved is held against the run",
            reason="networks leave the constant's level within tens of steps, or it takes a cause to keep "
            "them there",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        state = answer(run)
        if state.state.outcome is not Outcome.NOT_LEARNING or run.steps < self.limit("steps"):
            return
        frozen = unchanged(run.loss)
        level = state.constant_loss
        if frozen:
            words = "the loss is the same to the last bit on every step"
        elif state.tied:
            words = f"the loss ends at {state.state.end:.4g}, and the best constant answer costs {level:.4g}"
        elif np.isfinite(level):
            end, give = state.state.end, 2 * state.state.error
            words = (
                f"the loss does not fall; it ends at {end:.4g} give or take {give:.2g}, the best constant "
                f"answer costs {level:.4g} give or take {2 * state.constant_error:.2g}"
            )
        else:
            words = "the loss does not fall, and what it means cannot be told: its level is not known"
        steps, pairs = pace(run), consecutive(run)
        yield self.found(
            Cause.CAUSE_NOT_FOUND,
            Severity.WARNING if frozen or state.tied else Severity.INFO,
            f"{words}; none of the causes looked for was found",
            evidence=(
                *state.evidence,
                *(steps.evidence if steps is not None else ()),
                *(pairs.noisy if pairs is not None else ()),
                Evidence(name="steps seen", value=state.state.steps, unit="steps"),
            ),
            confidence=Confidence.INFERRED,
            layer=run.objective.output_layer if run.objective is not None else "",
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a loss at the level of the best constant",
            build=lambda: _labelled(flat_loss()),
            expect=(Expected(cause=Cause.CAUSE_NOT_FOUND, severity=Severity.WARNING, layer="head"),),
        ),
        Case(
            name="a loss that is the same to the last bit, whatever it means",
            build=lambda: run_of(
                Plan(path="fc1"), loss=np.full(200, 27.631), loss_operations=("NegBackward0",)
            ),
            expect=(Expected(cause=Cause.CAUSE_NOT_FOUND, severity=Severity.WARNING),),
        ),
        Case(
            name="a flat loss whose level means nothing is information",
            build=lambda: _unknown(flat_loss()),
            expect=(Expected(cause=Cause.CAUSE_NOT_FOUND, severity=Severity.INFO),),
        ),
        Case(
            name="a flat loss far below what a constant costs", build=lambda: _labelled(flat_loss(level=0.5))
        ),
        Case(name="a loss that falls", build=lambda: _labelled(falling_loss())),
        Case(name="too short to tell", build=lambda: _labelled(flat_loss(60))),
    )


def _unknown(loss: np.ndarray[tuple[int], np.dtype[np.float64]]) -> RunView:
    """A run whose loss is none that torch has as a function."""
    return run_of(Plan(path="fc1"), loss=loss, loss_operations=("NegBackward0",))


def _labelled(loss: np.ndarray[tuple[int], np.dtype[np.float64]]) -> RunView:
    """A classifier of ten classes."""
    return replace(run_of(Plan(path="fc1"), loss=loss), objective=objective_of(CLASSES, loss=2.2))
