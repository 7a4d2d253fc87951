"""The model answers as if it had not seen its input, and nothing else explains it.

## What it measures

The loss at the end against that of the best constant answer on the same batches (label entropy,
variance of the targets), and how far the answers to different samples differ.

## Why it hurts

A loss at that level is reached by an output bias alone: whatever the accuracy says, the inputs are
not used.

## Causes

- `constant-output`: the answers to all samples are the same: the signal is lost on its way forward.
- `no-relation`: the answers differ from sample to sample, the weights move, gradients flow, and yet
  the loss stays at the constant's: nothing in these inputs tells these targets (labels shuffled
  against inputs, inputs that are noise, or a step size at which nothing settles). It is said only
  where the weights walked at least their own size, and never of a run that had been below that level
  before or ends far above it: such a run shows that it is something else.

## Prognosis

A plateau of this kind may end by itself if the answers differ and their spread grows. A constant
answer does not.

## Example

Labels are shuffled apart from their images by a bug in the data set. A CNN with healthy layers stays
at ln 10 for all 500 steps, while its gradients point in a new direction at every step.

## False alarms

Only where the loss is that of one of torch's loss functions, alone and averaged, can it be compared
with a constant's. A run that is too short to tell is not reported.

## References

- Zhang, Bengio, Hardt, Recht, Vinyals: Understanding deep learning requires rethinking generalization
  (2017): random labels are learned, if at all, by heart.
"""

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from defib.core.finding import Cause, Confidence, Fault, Finding, Severity
from defib.core.run import RunView
from defib.diagnosis.case_parts import CLASSES, objective_of, sizes_of
from defib.diagnosis.cases import Plan, falling_loss, flat_loss, relapsing_loss, run_of
from defib.diagnosis.measures.answer import Answer, answer
from defib.diagnosis.measures.consecutive import consecutive
from defib.diagnosis.measures.learning import Outcome
from defib.diagnosis.measures.pace import pace
from defib.diagnosis.rule import Case, Expected, Limit, Rule


class ConstantPredictor(Rule):
    """An answer no better than a constant."""

    slug = "constant-predictor"
    fault = Fault.LABEL_OR_DATA_BUG
    faults = MappingProxyType({Cause.CONSTANT_OUTPUT: Fault.VANISHING})
    title = "the model answers as if it had not seen its input"
    rank = 60
    causes = (Cause.CONSTANT_OUTPUT, Cause.NO_RELATION)
    limits = (
        Limit(
            name="steps",
            default=100,
            unit="steps",
            meaning="fewest steps after which a loss at the constant's level is held against the run",
            reason="networks leave that level within tens of steps, or it takes a cause to keep them there",
        ),
        Limit(
            name="moved",
            default=1.0,
            unit="1",
            meaning="way walked over the size of the weights, below which nothing is said of the data",
            reason="weights that walked less than their own size may just not have got there",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        state = answer(run)
        if state.state.outcome is not Outcome.NOT_LEARNING or run.steps < self.limit("steps"):
            return
        if not state.tied or not np.isfinite(state.spread):
            return
        cause = Cause.CONSTANT_OUTPUT if state.same else Cause.NO_RELATION
        if cause is Cause.NO_RELATION and not self._could_have(run, state):
            return
        message = (
            "the answers to all samples are the same, and cost no less than the best constant"
            if state.same
            else "the answers differ from sample to sample, and cost no less than the best constant"
        )
        pairs = consecutive(run)
        yield self.found(
            cause,
            Severity.ERROR if state.same else Severity.WARNING,
            message,
            evidence=(*state.evidence, *(pairs.noisy if pairs is not None else ())),
            confidence=Confidence.MEASURED if state.same else Confidence.INFERRED,
            layer=run.objective.output_layer if run.objective is not None else "",
            since_step=0,
        )

    def _could_have(self, run: RunView, state: Answer) -> bool:
        """Whether the network could have found a relation, had there been one.

        It did not find one before it broke, it did not lose itself far above the constant's level, and
        its weights moved far enough to become other weights.

        Returns:
            False if any of it is known to be otherwise.
        """
        steps = pace(run)
        moved = steps is None or steps.moved >= self.limit("moved")
        return moved and not state.state.relapsed and not state.far_off

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="one answer for all samples",
            build=lambda: _answering(flat_loss(), 1e-6),
            expect=(Expected(cause=Cause.CONSTANT_OUTPUT, severity=Severity.ERROR, layer="head"),),
        ),
        Case(
            name="different answers that are no better",
            build=lambda: _answering(flat_loss(), 0.5),
            expect=(Expected(cause=Cause.NO_RELATION, severity=Severity.WARNING),),
        ),
        Case(name="different answers that are better", build=lambda: _answering(falling_loss(), 0.5)),
        Case(
            name="a plateau below what a constant costs", build=lambda: _answering(flat_loss(level=2.0), 0.5)
        ),
        Case(
            name="weights that hardly moved tell nothing about the data",
            build=lambda: replace(_answering(flat_loss(), 0.5), norms=sizes_of({"fc1.weight": (1.0, 1e-3)})),
        ),
        Case(
            name="weights that moved by twice their size, and nothing was found",
            build=lambda: replace(_answering(flat_loss(), 0.5), norms=sizes_of({"fc1.weight": (1.0, 1e-2)})),
            expect=(Expected(cause=Cause.NO_RELATION, severity=Severity.WARNING),),
        ),
        Case(
            name="it had found the relation before it broke",
            build=lambda: _answering(relapsing_loss(), 0.5),
        ),
        Case(name="too short to tell", build=lambda: _answering(flat_loss(60), 0.5)),
    )


def _answering(loss: np.ndarray[tuple[int], np.dtype[np.float64]], spread: float) -> RunView:
    """A classifier whose logits have that spread over the samples."""
    run = run_of(Plan(path="fc1"), loss=loss)
    return replace(run, objective=objective_of({**CLASSES, "output_spread": spread}))
