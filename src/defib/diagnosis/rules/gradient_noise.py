"""What is left of the gradient is noise: its mean over batches is zero.

## What it measures

On sampled pairs of consecutive steps the cosine of the two gradients, which come from two
independent batches. Noise cancels in the mean of that product, so that it is an unbiased measure of
the mean gradient's square, with a 95 % interval over the pairs; the steps in between are taken to be
small. Asked only of a run that learned and whose loss is at rest.

## Why it hurts

It does not: this is how training with mini-batches ends. But more steps of the same size over the
same batches do not lower the loss. A longer mean does, by smaller steps or larger batches.

## Causes

- `noise-floor`: the loss is at rest, and consecutive gradients have nothing in common: at least nine
  tenths of the gradient's mean square are noise.

## Prognosis

The loss stays at this level as long as rate and batch size do. It is proportional to rate over batch
size near a minimum.

## Example

A softmax regression on digits with three of ten labels drawn at random, 32 samples a step at a
constant rate: in the second half of 1,000 steps the mean cosine of consecutive gradients is 0.02, from
-0.01 to 0.05 at 95 %. The finding is information.

## False alarms

It is information only. Batches are taken to be shuffled. Steps that overshoot lower the cosine by
rate x curvature, and batches drawn without replacement by one over their number; hence nothing is said
where the interval reaches below zero by more than a tenth. Too few pairs give an interval too wide
to say anything.

## References

- McCandlish, Kaplan, Amodei: An Empirical Model of Large-Batch Training (2018): the noise scale.
- Mandt, Hoffman, Blei: Stochastic Gradient Descent as Approximate Bayesian Inference (2017).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Finding, Severity
from defib.core.inference import block_medians, falling
from defib.core.run import RunView
from defib.diagnosis.case_parts import pairs_of
from defib.diagnosis.cases import Plan, falling_loss, flat_loss, run_of
from defib.diagnosis.measures.consecutive import consecutive
from defib.diagnosis.measures.learning import Outcome, learning
from defib.diagnosis.rule import Case, Expected, Limit, Rule


class GradientNoise(Rule):
    """The mean gradient is zero within the noise."""

    slug = "gradient-noise"
    fault = Fault.HEALTHY
    title = "what is left of the gradient is noise"
    rank = 90
    causes = (Cause.NOISE_FLOOR,)
    limits = (
        Limit(
            name="signal",
            default=0.1,
            unit="1",
            meaning="both ends of the 95 % interval of the mean cosine of consecutive gradients",
            reason="the noise is then nine times the signal or more: ten such batches say as much as one "
            "gradient without noise",
        ),
        Limit(
            name="falling",
            default=0.01,
            unit="1",
            meaning="p-value of the trend of the loss over the second half of the run",
            reason="a loss that falls surely has a gradient to follow",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        pairs = consecutive(run)
        if pairs is None or learning(run).outcome is not Outcome.LEARNING:
            return
        values = run.loss.values
        late = block_medians(values[len(values) // 2 :], 16)
        interval, limit = pairs.signal_interval, self.limit("signal")
        if interval.high > limit or interval.low < -limit or falling(late) < self.limit("falling"):
            return
        most = max(abs(interval.low), abs(interval.high))
        yield self.found(
            Cause.NOISE_FLOOR,
            Severity.INFO,
            f"from step {pairs.first} on two batches share at most {most:.1%} of the gradient's mean square, "
            "and the loss is at rest",
            evidence=(*pairs.noisy, *_batch(run, most)),
            since_step=pairs.first,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="consecutive gradients have nothing in common",
            build=lambda: _compared(_at_rest(), again=0.0),
            expect=(Expected(cause=Cause.NOISE_FLOOR, severity=Severity.INFO),),
        ),
        Case(name="half of the gradient is signal", build=lambda: _compared(_at_rest(), again=0.5)),
        Case(name="nothing in common while the loss falls", build=lambda: _compared(_falling(), again=0.0)),
        Case(name="gradients that point back", build=lambda: _compared(_at_rest(), again=-0.5)),
    )


def _batch(run: RunView, signal: float) -> tuple[Evidence, ...]:
    """The least batch in which the signal would be as large as the noise: B (1 - c) / c."""
    batch = max((live.batch for live in run.liveness.values()), default=0.0)
    if not batch or not signal > 0:
        return ()
    least = batch * (1 - signal) / signal
    return (Evidence(name="batch of as much signal as noise, at least", value=least, unit="samples"),)


def _compared(loss: np.ndarray[tuple[int], np.dtype[np.float64]], again: float) -> RunView:
    """A run whose consecutive gradients have that cosine."""
    return replace(run_of(Plan(path="fc1"), loss=loss), pairs={0: pairs_of(after=0.0, again=again)})


def _at_rest() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A loss that falls and then stays."""
    return np.concatenate([falling_loss(60, end=0.5), flat_loss(240, level=0.5)])


def _falling() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A loss that falls to the end."""
    return np.asarray(np.linspace(2.3, 0.5, 300))
