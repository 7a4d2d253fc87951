"""Features of the data that do not change within any batch.

## What it measures

On each sampled step, the share of the input's features that have one value throughout the batch; of
these the smallest share over all readings counts.

## Why it hurts

It does not by itself. The weights from a feature that is always zero get a gradient of exactly zero
and stay as they were drawn; those from a constant feature only repeat the bias. Zeros in the first
layer's gradient that come from such features are no sign of trouble.

## Causes

- `dead-features`: blank borders of images, unused columns, one-hot codes of what never occurs, or
  features that an earlier step of the pipeline has lost.

## Prognosis

They stay as they are as long as the data does.

## Example

In scikit-learn's digits 11 % of the pixels are blank in next to all images.

## False alarms

This is information only. In small batches a rare feature may be constant by chance, so the smallest
share of several batches is taken.

## References

- LeCun, Bottou, Orr, Müller: Efficient BackProp (1998), on what inputs should look like.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Finding, Severity
from defib.core.run import RunView
from defib.diagnosis.case_parts import CLASSES, objective_of
from defib.diagnosis.cases import Plan, run_of
from defib.diagnosis.rule import Case, Expected, Limit, Rule


class DeadFeatures(Rule):
    """Inputs that never change."""

    slug = "dead-features"
    fault = Fault.HEALTHY
    title = "features of the data that never change"
    rank = 86
    causes = (Cause.DEAD_FEATURES,)
    limits = (
        Limit(
            name="share",
            default=0.05,
            unit="1",
            meaning="share of the features that are constant in every batch read",
            reason="one in twenty is the least that a person would look up in a table of features",
        ),
        Limit(
            name="readings",
            default=5,
            unit="batches",
            meaning="fewest batches read",
            reason="a feature that is rare is constant in one batch by chance, and hardly in five",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        objective = run.objective
        if objective is None:
            return
        shares = objective.columns["input_constant"]
        shares = shares[np.isfinite(shares)]
        if len(shares) < self.limit("readings"):
            return
        share = float(shares.min())
        if share < self.limit("share") or share >= 1:  # all constant: no feature, and not for this rule
            return
        features = objective.last("input_features")
        yield self.found(
            Cause.DEAD_FEATURES,
            Severity.INFO,
            f"{share:.0%} of the features of the data do not change within any batch that was read",
            evidence=(
                Evidence(name="constant features, least share in a batch", value=share),
                Evidence(name="features", value=features, unit="features"),
                Evidence(name="batches read", value=len(shares), unit="batches"),
            ),
            layer=objective.input_layer,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a blank border",
            build=lambda: _data(0.11),
            expect=(Expected(cause=Cause.DEAD_FEATURES, severity=Severity.INFO, layer="fc1"),),
        ),
        Case(name="all features change", build=lambda: _data(0.0)),
        Case(name="two batches say nothing", build=lambda: _data(0.11, readings=2)),
    )


def _data(constant: float, readings: int = 10) -> RunView:
    """A classification with that share of constant features."""
    objective = objective_of({**CLASSES, "input_constant": constant}, readings=readings)
    return replace(run_of(Plan(path="fc1")), objective=objective)
