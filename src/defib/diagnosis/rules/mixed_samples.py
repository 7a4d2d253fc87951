"""What the network takes for a sample is a patchwork of several: numbers were cut along the wrong axis.

## What it measures

Of models that take sequences, whether the inputs tell the targets: in every batch read, whether samples
with like targets lie nearer to each other than the others (the bias-corrected distance correlation, 0 on
average where they do not; see `constant-predictor`). The same is asked of the same numbers in memory, cut
into samples as if their second or last axis came first.

## Why it hurts

A sequence that holds moments of many others has nothing to do with its target. The network finds no
relation, or learns single patchworks by heart.

## Causes

- `samples-mixed`: (time, batch, features) was turned into (batch, time, features) by `view` or `reshape`,
  which only renames the axes, and not by `permute` or `transpose`; or the other way round.

## Prognosis

It does not pass: every batch is cut like this.

## Example

Forty sequences of 25 moments arrive time first and are turned with `reshape`. As they are, their distance
correlation with the labels is 0.02 (p = 0.08); cut along the other axis it is 0.66, at 47 standard errors
(p below 1e-300). The network ends at 0.51 accuracy, and at 1.00 with `permute`.

## False alarms

None is known: the p-value is that of a test which holds for any distribution of inputs and targets, and
sequences that tell their targets as they are do so better than their patchworks. What was cut wrongly
before it was put into batches, or flattened before the first layer, is not seen.

## References

- Székely, Rizzo: The distance correlation t-test of independence in high dimension (2013).
- Karpathy: A recipe for training neural networks (2019), on `view` where `permute` was meant.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Finding, Severity
from defib.core.run import RunView
from defib.diagnosis.case_labels import labelled
from defib.diagnosis.case_parts import related
from defib.diagnosis.cases import falling_loss, flat_loss, run_of
from defib.diagnosis.measures.answer import answer
from defib.diagnosis.measures.relation import relation, undone
from defib.diagnosis.rule import Case, Expected, Limit, Rule, harms

_WHY = "sequences that were cut up have little to do with their targets"
_HIDDEN = ("constant-predictor", "by-heart", "overfit", "lr-too-low", "gradient-noise")


class MixedSamples(Rule):
    """Samples that are patchworks of samples."""

    slug = "mixed-samples"
    fault = Fault.LABEL_OR_DATA_BUG
    title = "what the network takes for a sample is a patchwork of several"
    rank = 11
    causes = (Cause.SAMPLES_MIXED,)
    limits = (
        Limit(
            name="chance",
            default=1e-6,
            unit="1",
            meaning="p-value below which numbers that are cut along another axis do tell the targets",
            reason="two cuts are tried in each run, and samples may come again in several batches",
        ),
        Limit(
            name="weaker",
            default=0.5,
            unit="1",
            meaning="distance correlation of the samples as they are (95 % bound) over that of the other cut",
            reason="a patchwork of ten samples and more keeps little of any one; where half is left, samples "
            "are long or few, and either cut may be meant",
        ),
    )
    consequences = harms(*((rule, _WHY) for rule in _HIDDEN))

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        own, cut, objective = relation(run), undone(run), run.objective
        if objective is None or own is None or cut is None or not cut.p < self.limit("chance"):
            return
        if not own.most < self.limit("weaker") * cut.strength:
            return
        state = answer(run)
        yield self.found(
            Cause.SAMPLES_MIXED,
            Severity.ERROR if state.failing else Severity.WARNING,
            "the same numbers tell the targets far better when another axis than the first is taken for the "
            "outer one: a view or reshape made each sample a patchwork of several",
            evidence=(
                Evidence(name="distance correlation with the targets as it is", value=own.strength),
                Evidence(name="the same, below (95 %)", value=own.most),
                Evidence(name="the same of the numbers cut along the other axis", value=cut.strength),
                Evidence(name="p-value of that if they told nothing", value=cut.p),
                Evidence(name="samples compared", value=cut.samples, unit="samples"),
                *state.evidence,
            ),
            layer=objective.input_layer,
            since_step=int(objective.steps[0]),
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="time and batch were mixed up",
            build=lambda: related(labelled(flat_loss()), 0.01, cut=0.5),
            expect=(Expected(cause=Cause.SAMPLES_MIXED, severity=Severity.ERROR, layer="fc1"),),
        ),
        Case(
            name="the same while the patchworks are learned by heart",
            build=lambda: related(labelled(falling_loss()), 0.01, cut=0.5),
            expect=(Expected(cause=Cause.SAMPLES_MIXED, severity=Severity.WARNING),),
        ),
        Case(
            name="sequences that tell their targets as they are",
            build=lambda: related(labelled(falling_loss()), 0.5, cut=0.1),
        ),
        Case(
            name="neither cut tells anything", build=lambda: related(labelled(falling_loss()), 0.0, cut=0.005)
        ),
        Case(
            name="tables have one cut only", build=lambda: related(labelled(falling_loss()), 0.0, cut=np.nan)
        ),
        Case(name="of a record of before nothing is known", build=lambda: replace(run_of(), objective=None)),
    )
