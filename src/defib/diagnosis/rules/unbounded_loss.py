"""A loss that falls for ever, faster and faster: it has no lowest value.

## What it measures

Whether the loss is, by its autograd graph, minus a loss that torch has as a function (a cross entropy, a
squared or absolute error): those are never negative and have no largest value. Of other losses: how many
times larger a negative one is at the end than at first, and whether each part of the run falls further
than the part before.

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

Ascent on purpose (an attack that trains its perturbation, the minimax loss of a GAN) is not judged where
the layers are frozen or two optimisers play. A negative log-likelihood of continuous data is negative and
falls by a few units: it gains the logarithm of the precision, slower and slower. Rewards and critics of
two optimisers are not judged.

## References

- None; a function without a minimum has no minimiser.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
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
        if len(run.optimizers) != 1 or not len(values):
            return
        if _negated(run, values):
            yield self._negative(run, values)
            return
        if len(values) < 100:
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

    def _negative(self, run: RunView, values: NDArray[np.float64]) -> Finding:
        """About a loss with a minus sign in front."""
        return self.found(
            Cause.LOSS_UNBOUNDED,
            Severity.ERROR,
            f"the loss is minus a {_NEVER_NEGATIVE[run.loss_operations[1]]}: the better the answers, the "
            "larger it is, and it has no lowest value",
            evidence=(
                Evidence(name="loss at the start", value=float(np.median(values[:5])), unit="loss"),
                Evidence(name="loss at the end", value=float(np.median(values[-5:])), unit="loss"),
            ),
            confidence=Confidence.EXACT,
            layer=run.objective.output_layer if run.objective is not None else "",
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
        Case(
            name="minus a cross entropy",
            build=lambda: _minus("NegBackward0"),
            expect=(Expected(cause=Cause.LOSS_UNBOUNDED, severity=Severity.ERROR, since_step=0),),
        ),
        Case(
            name="a cross entropy times a negative number",
            build=lambda: _minus("MulBackward0"),
            expect=(Expected(cause=Cause.LOSS_UNBOUNDED, severity=Severity.ERROR, since_step=0),),
        ),
        Case(name="a cross entropy times a positive number", build=lambda: _minus("MulBackward0", sign=1.0)),
        Case(name="something less a cross entropy", build=lambda: _minus("SubBackward0")),
        Case(
            name="an attack: the network is frozen, its input is trained",
            build=lambda: _frozen(_minus("NegBackward0")),
        ),
        Case(name="a loss that falls to zero", build=lambda: run_of(Plan(path="fc1"))),
    )


_NEVER_NEGATIVE = {
    "NllLossBackward0": "cross entropy",
    "NllLoss2DBackward0": "cross entropy",
    "BinaryCrossEntropyBackward0": "binary cross entropy",
    "BinaryCrossEntropyWithLogitsBackward0": "binary cross entropy",
    "MseLossBackward0": "squared error",
    "L1LossBackward0": "absolute error",
    "SmoothL1LossBackward0": "smooth absolute error",
    "HuberLossBackward0": "Huber loss",
}
"""Loss functions that have no negative value, where they are given what they are made for."""


def _negated(run: RunView, values: NDArray[np.float64]) -> bool:
    """Whether the loss is one of them with nothing but a minus sign, or a factor, in front."""
    first, second = (*run.loss_operations[:2], "", "")[:2]
    if second not in _NEVER_NEGATIVE or not run.layers or all(layer.frozen for layer in run.layers):
        return False
    if "Nll" in second and "LogSoftmaxBackward0" not in run.loss_operations:
        return False  # of numbers that are no log-probabilities any value can come
    targets = run.objective
    if "Binary" in second and (
        targets is None or not (targets.last("target_low") >= 0 and targets.last("target_high") <= 1)
    ):
        return False
    minus = first == "NegBackward0" or first in {"MulBackward0", "DivBackward0"}
    return minus and bool((values <= 0).all()) and bool((values < 0).any())


def _minus(operation: str, sign: float = -1.0) -> RunView:
    """A classifier whose loss is that operation on a cross entropy."""
    operations = (operation, "NllLossBackward0", "LogSoftmaxBackward0")
    end = 4.0 if sign < 0 else 0.05
    return run_of(Plan(path="fc1"), loss=sign * falling_loss(end=end), loss_operations=operations)


def _frozen(run: RunView) -> RunView:
    return replace(run, layers=tuple(replace(layer, frozen=True) for layer in run.layers))
