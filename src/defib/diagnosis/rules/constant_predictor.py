"""The answers owe nothing to the inputs, and nothing else explains it.

## What it measures

The loss at the end against that of the best constant answer on the same batches (label entropy,
variance of the targets), and how far the answers to different samples differ.

Beside that, whether the inputs tell the targets, with no network in between: in every batch read,
whether samples with like targets lie nearer to each other than the others. That is the bias-corrected
distance correlation (0 where inputs and targets are independent, with a known spread), over all
batches together, and gives a p-value. It is measured where the model takes one input of real numbers and
each row of it has one target.

## Why it hurts

A loss at that level is reached by an output bias alone: whatever the accuracy says, the inputs are
not used.

## Causes

- `constant-output`: the answers to all samples are the same: the signal is lost on its way forward. Where
  they still differ by more than rounding (a ten-thousandth) and the weights walked their own size, they
  could have been driven apart, and it is one of the causes below.
- `input-ignored`: the answers never differed by more than rounding, from the first reading to the last, and
  no other rule knows of a signal that is lost: the input does not get to the output at all. A mean or a
  normalisation over the wrong axis, or over a single number, a mask the wrong way round, one thing put in
  for all samples.
- `no-relation`: the answers differ from sample to sample, and yet the loss stays at the constant's;
  and the inputs were seen to tell nothing of the targets (labels shuffled against inputs, inputs that are
  noise). Where that could not be measured, it is said only if the weights walked at least their own size,
  the run had never been below that level, and does not end far above it.
- `relation-unused`: the same, but the inputs do tell the targets (p below a millionth), so that the
  data are as they should be. What lies between is at fault: inputs mixed up or masked inside the model,
  targets mixed up inside the loss, a gradient that is wrong, a training loop that does not train.

## Prognosis

A plateau of this kind may end by itself if the answers differ and their spread grows. A constant
answer does not.

## Example

Digits and their labels are shuffled, each on its own. A CNN with healthy layers stays at ln 10 for all
500 steps, and the distance correlation of 512 images with their labels is 0.000 give or take 0.01; of the
same images with their own labels it is 0.5.

## False alarms

Only where the loss is that of one of torch's loss functions, alone and averaged, can it be compared
with a constant's. A run that is too short to tell is not reported.

The test sees features that tell something of the targets, each for itself or as a distance (a shell, an
exclusive or of two inputs). It is blind for what only several of many features tell together: a parity, a
product, a spiral, an exclusive or of two among twenty. A run that is still on its plateau before such a
task cannot be told, by any of these numbers, from one without a relation at all.

## References

- Székely, Rizzo: The distance correlation t-test of independence in high dimension (2013).
- Zhang, Bengio, Hardt, Recht, Vinyals: Understanding deep learning requires rethinking generalization
  (2017): random labels are learned, if at all, by heart.
"""

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.finding import Confidence, Finding, Severity
from defib.core.run import RunView
from defib.diagnosis.case_parts import CLASSES, objective_of, related, sizes_of
from defib.diagnosis.cases import Plan, falling_loss, flat_loss, relapsing_loss, run_of
from defib.diagnosis.measures.answer import ROUNDING, Answer, answer
from defib.diagnosis.measures.consecutive import consecutive
from defib.diagnosis.measures.learning import Outcome
from defib.diagnosis.measures.pace import pace
from defib.diagnosis.measures.relation import NOTHING, Relation, relation
from defib.diagnosis.rule import Case, Consequence, Expected, Limit, Rule


class ConstantPredictor(Rule):
    """An answer that owes nothing to the input."""

    slug = "constant-predictor"
    fault = Fault.LABEL_OR_DATA_BUG
    faults = MappingProxyType({Cause.CONSTANT_OUTPUT: Fault.VANISHING})
    title = "the answers owe nothing to the inputs"
    rank = 60
    causes = (Cause.CONSTANT_OUTPUT, Cause.INPUT_IGNORED, Cause.NO_RELATION, Cause.RELATION_UNUSED)
    consequences = tuple(
        Consequence(rule=rule, when=(Cause.CONSTANT_OUTPUT, Cause.INPUT_IGNORED), delay=-1, why=why)
        for rule, why in (
            ("dead-unit", "units that see the same for every sample are off for all of them, or for none"),
            ("linear-unit", "units that see the same for every sample are on for all of them, or for none"),
            ("dormant-unit", "units that see the same for every sample may say next to nothing"),
        )
    )
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
        NOTHING,
        Limit(
            name="chance",
            default=1e-6,
            unit="1",
            meaning="p-value below which inputs do tell the targets",
            reason="samples that come again in several of the batches read make it too small by some decades",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        state = answer(run)
        if run.steps < self.limit("steps"):
            return
        link = relation(run)
        none = link is not None and link.nothing(self.limit("relation"))
        if state.state.outcome is not Outcome.NOT_LEARNING or not np.isfinite(state.spread):
            return
        blind = not np.isfinite(state.constant_loss) and none and not state.state.relapsed
        apart = state.spread >= ROUNDING and self._could_have(run, state)
        # One answer for all can cost no less than the best one, however roughly that is known.
        if (state.tied or state.never_apart) and state.same and not apart:
            yield self._same(run, state)
        elif state.tied or blind:
            yield from self._no_better(run, state, link)

    def _same(self, run: RunView, state: Answer) -> Finding:
        """One answer for all samples."""
        words = "the answers to all samples are the same"
        if state.never_apart:
            words += " from the first step on"
        return self._finding(
            run,
            state,
            Cause.INPUT_IGNORED if state.never_apart else Cause.CONSTANT_OUTPUT,
            f"{words}, and cost no less than the best constant",
        )

    def _no_better(self, run: RunView, state: Answer, link: Relation | None) -> Iterable[Finding]:
        """Answers that differ to no avail: for want of a relation, or although there is one."""
        words = "the answers differ from sample to sample, and cost no less than the best constant"
        if not np.isfinite(state.constant_loss):
            words = "the answers differ from sample to sample, and the loss does not fall"
        if link is not None and link.nothing(self.limit("relation")):
            words += f"; the inputs of {link.samples} samples were not seen to tell anything of their targets"
            yield self._finding(run, state, Cause.NO_RELATION, words, link)
        elif link is not None and link.p < self.limit("chance"):
            if self._could_have(run, state):
                told = f"{words}; yet the inputs do tell the targets: the data are not what is wrong"
                yield self._finding(run, state, Cause.RELATION_UNUSED, told, link)
        elif (link is None or not link.likely) and self._could_have(run, state):
            yield self._finding(run, state, Cause.NO_RELATION, words, link)

    def _finding(
        self,
        run: RunView,
        state: Answer,
        cause: Cause,
        message: str,
        link: Relation | None = None,
    ) -> Finding:
        pairs = consecutive(run)
        same = cause in {Cause.CONSTANT_OUTPUT, Cause.INPUT_IGNORED}
        noisy = pairs.noisy if pairs is not None else ()
        return self.found(
            cause,
            Severity.ERROR if same else Severity.WARNING,
            message,
            evidence=(*state.evidence, *(link.evidence if link is not None else ()), *noisy),
            confidence=Confidence.MEASURED if same else Confidence.INFERRED,
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
            expect=(Expected(cause=Cause.INPUT_IGNORED, severity=Severity.ERROR, layer="head"),),
        ),
        Case(
            name="answers that differed at first and are all the same now",
            build=lambda: _answering(flat_loss(), 1e-6, first=0.3),
            expect=(Expected(cause=Cause.CONSTANT_OUTPUT, severity=Severity.ERROR, layer="head"),),
        ),
        Case(
            name="answers that hardly differ in spite of all that the weights walked",
            build=lambda: _answering(flat_loss(), 0.003),
            expect=(Expected(cause=Cause.NO_RELATION, severity=Severity.WARNING),),
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
        Case(
            name="weights that hardly moved, and inputs that tell nothing",
            build=lambda: related(
                replace(_answering(flat_loss(), 0.5), norms=sizes_of({"fc1.weight": (1.0, 1e-3)})), 0.0
            ),
            expect=(Expected(cause=Cause.NO_RELATION, severity=Severity.WARNING),),
        ),
        Case(
            name="inputs that may well tell the targets: neither is said",
            build=lambda: related(_answering(flat_loss(), 0.5), 0.022),
        ),
        Case(
            name="inputs that tell the targets are not used",
            build=lambda: related(_answering(flat_loss(), 0.5), 0.3),
            expect=(Expected(cause=Cause.RELATION_UNUSED, severity=Severity.WARNING),),
        ),
    )


def _answering(
    loss: np.ndarray[tuple[int], np.dtype[np.float64]], spread: float, first: float | None = None
) -> RunView:
    """A classifier whose logits have that spread over the samples; on the first reading another, if given."""
    run = run_of(Plan(path="fc1"), loss=loss)
    objective = objective_of({**CLASSES, "output_spread": spread})
    objective.columns["output_spread"][0] = spread if first is None else first
    return replace(run, objective=objective)
