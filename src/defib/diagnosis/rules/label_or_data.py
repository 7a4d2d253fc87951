"""The targets themselves are wrong, or are not compared as they were meant to be.

## What it measures

On sampled steps, what the loss function was given: whether predictions and targets of different
shapes were stretched over each other, how many different labels there are, which share of them is
ignored, and whether the targets lie in the range for which the loss has a minimum.

## Why it hurts

The network is trained towards something else than what was meant. Gradients flow, units live, the
loss may even fall; no change to the network helps.

## Causes

- `shapes-broadcast`: predictions of shape (N, 1) and targets of shape (N,), or the reverse, are
  stretched to (N, N): every prediction is compared with every target, and the best answer is the
  targets' mean.
- `constant-labels`: every label of every batch is the same, so that a constant answer is perfect.
- `sorted-data`: every batch holds one label, and the next ones another: the data comes in order and
  is not shuffled. The network learns to give that label and forgets the others: in the second half of
  the run a new label still costs half of what it cost at first, or more.
- `labels-ignored`: next to all labels carry the loss's ignore_index, and give no gradient.
- `labels-outside`: binary cross-entropy is given targets below 0 or above 1; it then has no lower
  bound and falls for ever.
- `constant-inputs`: every feature has the same value for all samples of a batch, so that no answer
  can differ.

## Prognosis

It does not pass: the data stays as it is.

## Example

A regression on breast-cancer data returns (32, 1) and compares it with targets of shape (32,). The
loss settles at the targets' variance. The finding says that the shapes were stretched.

## False alarms

A scalar target stretched over a batch (the "real" and "fake" of a GAN) is meant so and is not
reported; neither are constant targets with several optimisers. Constant labels are reported only
once the loss has fallen to almost nothing: a contrastive loss has constant labels, too, and never
gets there. A label so rare that no batch read held it shows in the loss, which is heard on every step and
jumps where the label occurs: then nothing is said. Jumps far smaller than such a label's cost (dropout makes
them) are none. Masked language models ignore 85 % of the labels, far
from the limit.

## References

- pytorch/pytorch: the warning "Using a target size that is different to the input size".
"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Finding, Severity
from defib.core.objective import Objective
from defib.core.run import RunView
from defib.diagnosis.case_labels import (
    binary,
    compared,
    forgetting_loss,
    in_order,
    labelled,
    seldom_loss,
    uneven_loss,
)
from defib.diagnosis.cases import falling_loss, flat_loss
from defib.diagnosis.measures.answer import Answer, answer
from defib.diagnosis.measures.labels import always_one_label, dearest_late, samples_of, without_spikes
from defib.diagnosis.rule import Case, Consequence, Expected, Limit, Rule

_STRETCHED = {"broadcast": 1.0, "target_spread": 0.0}
_HIDDEN = (
    "constant-predictor",
    "by-heart",
    "initialisation",
    "lr-too-low",
    "vanishing-gradient",
    "saturated-unit",
    "dead-unit",
    "zero-gradient",
)


_FEWEST = 3
"""Fewer batches show nothing of how labels differ."""


class LabelOrData(Rule):
    """Targets that are wrong, or compared with the wrong predictions."""

    slug = "label-or-data"
    fault = Fault.LABEL_OR_DATA_BUG
    title = "the targets are wrong, or are compared with the wrong predictions"
    rank = 10
    causes = (
        Cause.SHAPES_BROADCAST,
        Cause.CONSTANT_LABELS,
        Cause.SORTED_DATA,
        Cause.LABELS_IGNORED,
        Cause.LABELS_OUTSIDE,
        Cause.CONSTANT_INPUTS,
    )
    limits = (
        Limit(
            name="ignored",
            default=0.99,
            unit="1",
            meaning="share of ignored labels",
            reason="masked language models ignore 0.85, sequences padded to a tenth of their length 0.9; "
            "beyond 0.99 a batch of a hundred labels holds one",
        ),
        Limit(
            name="solved",
            default=0.05,
            unit="1",
            meaning="loss at the end over that at the start, at which constant labels are learned by heart",
            reason="with constant labels the output bias alone lets the loss fall to zero",
        ),
        Limit(
            name="sorted",
            default=0.5,
            unit="1",
            meaning="share of the batches that hold one label only",
            reason="where classes follow each other, only the batches at a border are mixed; of shuffled "
            "batches of eight, half never hold one label each, and not of different labels",
        ),
        Limit(
            name="forgotten",
            default=0.5,
            unit="1",
            meaning="what the dearest tenth of the batches costs in the second half of a run on sorted data, "
            "over the loss at the start",
            reason="a label that has been learned costs little when it comes round again; at half of what it "
            "cost at first it was forgotten in between",
        ),
        Limit(
            name="labels",
            default=300,
            unit="labels",
            meaning="fewest labels that must be the same where the loss is not learned away",
            reason="0 of 300: another label has a share of less than 1 % (95 %)",
        ),
        Limit(
            name="samples",
            default=8,
            unit="samples",
            meaning="fewest samples a batch that must share one label",
            reason="of eight labels drawn from two equal classes one batch in 128 is constant, and all "
            "batches of a run never are",
        ),
    )
    consequences = tuple(
        Consequence(rule=rule, delay=-1, why="with these targets nothing could be learned by any network")
        for rule in _HIDDEN
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding: the first that holds."""
        objective = run.objective
        if objective is None or not len(objective.steps):
            return
        state = answer(run)
        for found in (
            self._broadcast(objective, state),
            self._outside(objective, state),
            self._same_inputs(run, objective, state),
            self._ignored(objective, state),
            self._sorted(run, objective, state),
            self._constant(run, objective, state),
        ):
            if found is not None:
                yield found
                return

    def _broadcast(self, objective: Objective, state: Answer) -> Finding | None:
        """Shapes that were stretched over each other, with targets that differ."""
        differ = objective.last("target_high") > objective.last("target_low")
        if objective.last("broadcast") != 1 or not differ:
            return None
        return self.found(
            Cause.SHAPES_BROADCAST,
            Severity.ERROR if state.failing else Severity.WARNING,
            "predictions and targets have different shapes and are stretched over each other: "
            "every prediction is compared with every target",
            evidence=(
                Evidence(name="steps read with stretched shapes", value=len(objective.steps), unit="steps"),
                *state.evidence,
            ),
            layer=objective.output_layer,
            since_step=int(objective.steps[0]),
        )

    def _outside(self, objective: Objective, state: Answer) -> Finding | None:
        """Targets of a binary cross-entropy below 0 or above 1."""
        low, high = objective.last("target_low", 50), objective.last("target_high", 50)
        if not objective.operation.startswith("BinaryCrossEntropy") or not (low < -1e-3 or high > 1 + 1e-3):
            return None
        return self.found(
            Cause.LABELS_OUTSIDE,
            Severity.ERROR,
            f"binary cross-entropy is given targets from {low:.3g} to {high:.3g}; outside 0 to 1 it has "
            "no minimum",
            evidence=(
                Evidence(name="smallest target", value=low),
                Evidence(name="largest target", value=high),
                *state.evidence,
            ),
            layer=objective.output_layer,
            since_step=int(objective.steps[0]),
        )

    def _same_inputs(self, run: RunView, objective: Objective, state: Answer) -> Finding | None:
        """No feature differs between the samples of a batch."""
        share = objective.last("input_constant", len(objective.steps))
        if share != 1 or samples_of(run, objective) < self.limit("samples") or not state.failing:
            return None
        return self.found(
            Cause.CONSTANT_INPUTS,
            Severity.ERROR,
            "every feature has the same value for all samples of a batch",
            evidence=(Evidence(name="share of features that do not vary", value=share), *state.evidence),
            layer=objective.input_layer,
            since_step=int(objective.steps[0]),
        )

    def _ignored(self, objective: Objective, state: Answer) -> Finding | None:
        """Next to no label counts."""
        share = objective.last("ignored", len(objective.steps))
        if not share >= self.limit("ignored"):
            return None
        return self.found(
            Cause.LABELS_IGNORED,
            Severity.ERROR if state.failing else Severity.WARNING,
            f"{share:.1%} of the labels carry the index that the loss ignores",
            evidence=(Evidence(name="share of ignored labels", value=share), *state.evidence),
            layer=objective.output_layer,
            since_step=int(objective.steps[0]),
        )

    def _sorted(self, run: RunView, objective: Objective, state: Answer) -> Finding | None:
        """One label a batch, another one in another batch."""
        classes, means = objective.columns["classes"], objective.columns["label_mean"]
        one = classes == 1
        share = float(one[np.isfinite(classes)].mean()) if np.isfinite(classes).any() else 0.0
        labels = np.unique(means[one & np.isfinite(means)].round(6))
        if not share >= self.limit("sorted") or len(labels) < 2:
            return None
        again = dearest_late(run) / state.state.start if state.state.start > 0 else float("nan")
        harmful = state.failing or again >= self.limit("forgotten")
        if not harmful or samples_of(run, objective) < self.limit("samples"):
            return None
        return self.found(
            Cause.SORTED_DATA,
            Severity.ERROR if state.failing else Severity.WARNING,
            f"{share:.0%} of the batches hold one label only, and {len(labels)} different ones were seen: "
            "the data comes in order of its labels",
            evidence=(
                Evidence(name="share of the batches read with one label", value=share),
                Evidence(name="different labels of those batches", value=len(labels), unit="labels"),
                *((Evidence(name="dearest late batches over the first", value=again),) if again > 0 else ()),
                *state.evidence,
            ),
            layer=objective.output_layer,
            since_step=int(objective.steps[0]),
        )

    def _constant(self, run: RunView, objective: Objective, state: Answer) -> Finding | None:
        """The same label throughout, learned by heart."""
        count = len(objective.steps)
        if not always_one_label(objective) or len(run.optimizers) != 1 or count < _FEWEST:
            return None
        samples = samples_of(run, objective)
        learned = state.state.end <= self.limit("solved") * state.state.start
        solved = learned and without_spikes(run.loss, samples)
        stuck = state.state.stuck and samples * count >= self.limit("labels")
        if samples < self.limit("samples") or not (solved or stuck):
            return None
        return self.found(
            Cause.CONSTANT_LABELS,
            Severity.ERROR,
            "every label of every batch read is the same, so that a constant answer is perfect",
            evidence=(
                Evidence(name="different labels in a batch", value=1, unit="labels"),
                Evidence(name="batches read", value=len(objective.steps), unit="batches"),
                *state.evidence,
            ),
            layer=objective.output_layer,
            since_step=int(objective.steps[0]),
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="every prediction is compared with every target",
            build=lambda: compared(flat_loss(level=1.0), **_STRETCHED),
            expect=(Expected(cause=Cause.SHAPES_BROADCAST, severity=Severity.ERROR, layer="head"),),
        ),
        Case(
            name="the same while the loss falls",
            build=lambda: compared(falling_loss(), **_STRETCHED),
            expect=(Expected(cause=Cause.SHAPES_BROADCAST, severity=Severity.WARNING),),
        ),
        Case(
            name="a target of 1 for a whole batch",
            build=lambda: compared(
                falling_loss(), broadcast=1.0, target_low=1.0, target_high=1.0, target_spread=0.0
            ),
        ),
        Case(
            name="labels of -1 and 1 for a binary cross-entropy",
            build=lambda: binary(-1.0),
            expect=(Expected(cause=Cause.LABELS_OUTSIDE, severity=Severity.ERROR),),
        ),
        Case(
            name="every answer should be yes",
            build=lambda: binary(1.0, loss=falling_loss(end=0.001)),
            expect=(Expected(cause=Cause.CONSTANT_LABELS, severity=Severity.ERROR),),
        ),
        Case(
            name="every answer should be yes, and dropout makes the losses differ by tens of times",
            build=lambda: binary(1.0, loss=uneven_loss()),
            expect=(Expected(cause=Cause.CONSTANT_LABELS, severity=Severity.ERROR),),
        ),
        Case(
            name="so few should be yes that no batch read held one, and the loss shows them",
            build=lambda: binary(0.0, 0.0, loss=seldom_loss()),
        ),
        Case(name="labels of 0 and 1 for a binary cross-entropy", build=lambda: binary(0.0)),
        Case(
            name="all labels are padding",
            build=lambda: labelled(flat_loss(), ignored=1.0, classes=0.0),
            expect=(Expected(cause=Cause.LABELS_IGNORED, severity=Severity.ERROR),),
        ),
        Case(
            name="all inputs are zero",
            build=lambda: labelled(flat_loss(), input_constant=1.0, input_std=0.0),
            expect=(Expected(cause=Cause.CONSTANT_INPUTS, severity=Severity.ERROR, layer="fc1"),),
        ),
        Case(name="a masked language model", build=lambda: labelled(falling_loss(), ignored=0.85)),
        Case(
            name="every label is the same",
            build=lambda: labelled(falling_loss(end=0.001), classes=1.0, constant_loss=0.0),
            expect=(Expected(cause=Cause.CONSTANT_LABELS, severity=Severity.ERROR),),
        ),
        Case(
            name="digits sorted by class",
            build=lambda: in_order(flat_loss(level=3.3)),
            expect=(Expected(cause=Cause.SORTED_DATA, severity=Severity.ERROR, layer="head"),),
        ),
        Case(
            name="batches of one class each in a network that learns", build=lambda: in_order(falling_loss())
        ),
        Case(
            name="each class costs as much when it comes round again",
            build=lambda: in_order(forgetting_loss()),
            expect=(Expected(cause=Cause.SORTED_DATA, severity=Severity.WARNING, layer="head"),),
        ),
        Case(
            name="a contrastive loss: the positive is always first",
            build=lambda: labelled(falling_loss(end=1.0), classes=1.0, constant_loss=0.0),
        ),
    )
