"""Gradients that are never set to zero: each step follows the sum of all earlier ones.

## What it measures

On sampled steps, at the moment the first backward after an optimiser's step begins: whether the
gradients of the last layer still hold what that step used.

## Why it hurts

PyTorch adds to `.grad`. Without `zero_grad()` step t follows the sum of t gradients: that is momentum
without friction. The steps grow with their number, and go on in directions whose reason is long gone.

## Causes

- `gradients-kept`: on every step that was read the old gradients were still there.

## Prognosis

It does not pass: the sum only grows.

## Example

`optimizer.zero_grad()` is missing from the loop. The loss falls for a hundred steps, comes up again
and stays above that of the best constant.

## False alarms

Accumulation over several batches leaves gradients between backwards, not after a step: only the
first backward after a step is looked at, and one that finds none is enough for silence. With several
optimisers gradients may be left on purpose for the other one, and nothing is said. In a run that learns
it is information.

## References

- PyTorch documentation, Zeroing out gradients in PyTorch.
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
from defib.diagnosis.cases import Plan, falling_loss, relapsing_loss, run_of
from defib.diagnosis.measures.answer import answer
from defib.diagnosis.rule import Case, Expected, Limit, Rule, harms

_HIDDEN = (
    "lr-too-high", "exploding-gradient", "vanishing-gradient", "dead-unit", "saturated-unit",
    "constant-predictor", "zero-gradient", "non-finite",
)  # fmt: skip


class GradientsKept(Rule):
    """The sum of all gradients in place of the last one."""

    slug = "gradients-kept"
    fault = Fault.LR_TOO_HIGH
    title = "gradients of earlier steps are never set to zero"
    rank = 18
    causes = (Cause.GRADIENTS_KEPT,)
    limits = (
        Limit(
            name="readings",
            default=2,
            unit="readings",
            meaning="fewest readings, all of which found old gradients",
            reason="every run has three readings, however dear they are, and the first of them has no step "
            "before it; once may be an accident, and what was never otherwise is a habit",
        ),
    )
    consequences = harms(
        *((rule, "steps that only grow throw units and weights anywhere") for rule in _HIDDEN)
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        if run.objective is None or len(run.optimizers) != 1:
            return
        last = run.layer(run.objective.output_layer)
        if last is not None and last.optimizer < 0:
            return  # zero_grad() of an optimiser reaches what it owns, and this layer is not trained
        left = run.objective.columns["leftover"]
        left = left[np.isfinite(left)]
        if len(left) < self.limit("readings") or not (left == 1).all():
            return
        state = answer(run)
        yield self.found(
            Cause.GRADIENTS_KEPT,
            Severity.ERROR if state.failing or state.late else Severity.INFO,
            "when backward begins the gradients of the step before are still there: zero_grad() is missing, "
            "and every step follows the sum of all gradients so far",
            evidence=(
                Evidence(name="steps read, all with old gradients", value=len(left), unit="steps"),
                *state.evidence,
            ),
            confidence=Confidence.EXACT,
            layer=run.objective.output_layer,
            since_step=0,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="zero_grad() is missing",
            build=lambda: _left(relapsing_loss(), 1.0),
            expect=(Expected(cause=Cause.GRADIENTS_KEPT, severity=Severity.ERROR, since_step=0),),
        ),
        Case(
            name="the same in a run that learns",
            build=lambda: _left(falling_loss(), 1.0),
            expect=(Expected(cause=Cause.GRADIENTS_KEPT, severity=Severity.INFO),),
        ),
        Case(
            name="steps so short that the budget allows three readings, the first before any step",
            build=lambda: _seldom_read(_left(relapsing_loss(), 1.0), 3),
            expect=(Expected(cause=Cause.GRADIENTS_KEPT, severity=Severity.ERROR),),
        ),
        Case(
            name="a single reading of what a step left",
            build=lambda: _seldom_read(_left(relapsing_loss(), 1.0), 2),
        ),
        Case(name="gradients are set to zero", build=lambda: _left(relapsing_loss(), 0.0)),
        Case(name="the last layer belongs to no optimiser", build=lambda: _owned_by_none(falling_loss())),
        Case(name="a record that does not tell", build=lambda: _left(relapsing_loss(), float("nan"))),
    )


def _owned_by_none(loss: np.ndarray[tuple[int], np.dtype[np.float64]]) -> RunView:
    """The same, and the optimiser was made before the last layer."""
    run = _left(loss, 1.0)
    return replace(run, layers=tuple(replace(layer, optimizer=-1) for layer in run.layers))


def _seldom_read(run: RunView, readings: int) -> RunView:
    """The same with that many readings, the first of which cannot tell."""
    assert run.objective is not None
    columns = {name: values[:readings].copy() for name, values in run.objective.columns.items()}
    columns["leftover"][0] = np.nan
    steps = run.objective.steps[:readings]
    return replace(run, objective=replace(run.objective, steps=steps, columns=columns))


def _left(loss: np.ndarray[tuple[int], np.dtype[np.float64]], left: float) -> RunView:
    """A classifier whose gradients are there, or not, when backward begins."""
    run = run_of(Plan(path="fc1"), loss=loss)
    return replace(run, objective=objective_of(CLASSES, leftover=left, loss=2.2))
