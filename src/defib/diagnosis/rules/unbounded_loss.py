"""A loss that falls for ever, faster and faster: it has no lowest value.

## What it measures

A negative loss: how many times larger it is at the end than at first, and whether each part of the
run falls further than the part before.

## Why it hurts

The lowest point of a loss is what a network is trained towards. Where there is none, it follows the
direction in which the number falls fastest, and that is the scale of its own outputs.

## Causes

- `loss-unbounded`: a sign is missing (a likelihood is minimised), or a score is rewarded without a
  bound or a regulariser.

## Prognosis

It goes on until the numbers overflow.

## Example

`loss = distribution.log_prob(y).mean()` without its minus sign: the loss goes from -80 to -17,000,000,
while the predicted means move away from the targets.

## False alarms

A negative log-likelihood of continuous data is negative and falls by a few units: it gains the
logarithm of the precision, slower and slower. Rewards and critics of two optimisers are not judged.

## References

- None; a function without a minimum has no minimiser.
"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from defib.core.finding import Cause, Evidence, Fault, Finding, Severity
from defib.core.inference import block_medians
from defib.core.run import RunView
from defib.diagnosis.cases import Plan, falling_loss, run_of
from defib.diagnosis.rule import Case, Expected, Limit, Rule, harms


class UnboundedLoss(Rule):
    """A loss without a lowest value."""

    slug = "unbounded-loss"
    fault = Fault.WRONG_LOSS_OR_OUTPUT_ACTIVATION
    title = "the loss has no lowest value and falls for ever"
    rank = 13
    causes = (Cause.LOSS_UNBOUNDED,)
    limits = (
        Limit(
            name="growth",
            default=1000.0,
            unit="1",
            meaning="size of the negative loss at the end over that at the start (or 1, if that is larger)",
            reason="a log-likelihood gains 2.3 a decade of precision: a thousand of them is beyond any "
            "number format",
        ),
    )
    consequences = harms(
        ("saturated-unit", "outputs that grow without bound saturate what is below"),
        ("exploding-gradient", "what grows without bound multiplies gradients"),
        ("lr-too-high", "no step is small where nothing holds the outputs back"),
        ("dead-unit", "outputs that grow without bound throw units off"),
        ("non-finite", "what grows without bound overflows"),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        values = run.loss.values[np.isfinite(run.loss.values)]
        if len(run.optimizers) != 1 or len(values) < 100:
            return
        parts = block_medians(values, 10)
        start, end = float(np.median(values[:5])), float(parts[-1])
        falls = -np.diff(parts)
        growing = end < 0 and bool((falls > 0).all()) and falls[-3:].mean() > falls[:3].mean()
        if not growing or -end < self.limit("growth") * max(abs(start), 1.0):
            return
        yield self.found(
            Cause.LOSS_UNBOUNDED,
            Severity.WARNING,
            f"the loss falls from {start:.4g} to {end:.4g}, faster and faster: it has no lowest value (is a "
            "sign missing?)",
            evidence=(
                Evidence(name="loss at the start", value=start, unit="loss"),
                Evidence(name="loss at the end", value=end, unit="loss"),
                Evidence(name="last tenth's fall over the first's", value=float(falls[-1] / falls[0])),
            ),
            since_step=0,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a likelihood is minimised",
            build=lambda: run_of(Plan(path="fc1"), loss=-1.0 - np.arange(300.0) ** 2),
            expect=(Expected(cause=Cause.LOSS_UNBOUNDED, severity=Severity.WARNING, since_step=0),),
        ),
        Case(
            name="a likelihood of data that is fitted ever better",
            build=lambda: run_of(Plan(path="fc1"), loss=-3 * np.log(1.0 + np.arange(300.0))),
        ),
        Case(
            name="a large negative loss that comes to rest",
            build=lambda: run_of(Plan(path="fc1"), loss=falling_loss(start=-1.0, end=-1e5)),
        ),
        Case(name="a loss that falls to zero", build=lambda: run_of(Plan(path="fc1"))),
    )
