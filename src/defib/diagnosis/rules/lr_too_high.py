"""Steps so large that the gradient they follow no longer holds.

## What it measures

On sampled steps, the size of the update against the size of the weights, all tensors together; in
the stream of losses, whether the loss ran away from where it started; and, from pairs of consecutive
steps, how far each step passes the lowest point ahead of it. All only in a run that fails.

The overshoot is measured from what training shows anyway, without a second backward. With g the
gradient before a step d and g' the gradient after it, the slope along the step is <g, d> at its
start and <g', d> at its end, and

    O = 1 - <g', d> / <g, d>

is the length of the step over the way to the lowest point of the parabola between them: 1 lands
there, 2 lands as high on the other side. It holds for any optimiser, since only the step itself
enters. For plain gradient descent on full batches O is the learning rate times the curvature along
the step, so that 2 is the classical bound 2 / curvature; momentum moves that bound to
2 (1 + momentum) / curvature, where O is again 2. With mini-batches g' is of another batch than d, and
<g', d> is on average the true slope; <g, d> is steeper than the true one by the share r of
noise in it, so that O = r + rate x curvature for plain gradient descent: the true product lies
between O - 1 and O, and the true overshoot is never below O. At rest in noise the true overshoot is 2
on average, whatever the rate: steps gain as much as they lose; the measured O is then
1 + (rate x curvature) / 2. But batches that take turns in a fixed order point against each other
by themselves, and can bring O up to 2. So where the data differs from step to step, only an O
surely above 2 is blamed, and O below it stands in the evidence.

Under `defib run --curvature` the curvature itself is measured on some steps: the largest eigenvalue of
S^1/2 H S^1/2, where H is the Hessian of the batch's loss and S what the optimiser multiplies the
gradient with (the rate for SGD, the rate over the root of the second moment for Adam and its kind), with a
bound on its error. That is rate x curvature, and the optimiser's own recurrence says how much of it
can be followed: 2 for gradient descent, 2 (1 + m) for momentum m, 2 (1 + m) / (1 + 2 m) for
Nesterov's, 2 (1 + b1) / (1 - b1) for Adam. Beyond it the error along the steepest direction grows from step
to step. This is the strongest evidence, and is asked first; see the page Curvature.

## Why it hurts

A gradient describes the loss near the weights where it was taken. A step as large as the weights
lands in another network: there the loss may be higher, units may be off for every sample, bounded
activations may be saturated. Beyond 2 / curvature every step multiplies the error.

## Causes

- `step-larger-than-weights`: an update was as large as the weights themselves, or updates stay at a
  tenth of them, or the weights walked ten times their size and the loss is still the best constant's.
- `steps-beyond-stability`: rate x largest curvature, measured, was more than the optimiser can
  follow, before the loss rose; or a fifth more than that while the loss stayed.
- `loss-runs-away`: the loss rose by orders of magnitude above its start in finite numbers, or ended
  half as high again.
- `steps-overshoot`: the loss does not fall, and the gradient after a step points back with more than
  half the force with which the gradient before it pointed ahead.

## Prognosis

A single large step at the start may be survived. Units that it killed do not come back, and a loss
that grows from step to step ends in infinity.

## Example

A regression with SGD at a learning rate of 0.1: the first update is 3 times, the second 600 times as
large as the weights, and from then on all hidden units are off for every sample. The finding names the step
and explains the dead units.

## False alarms

A large but stable learning rate is healthy, and so is a loss that rises at first and then falls: a
run that learns is not reported. Weights that began at zero make the ratio of their own tensor
infinite; all tensors are taken together, and nothing is said where all are zero. A rate that slipped
once, in a run that had learned until then, and killed most of a layer is one event: `dead-unit` tells it,
with the rate in its evidence. Training at the edge of stability (O between 1 and 2 while the loss falls) is
healthy and not reported, and so is a measured rate x curvature at its bound or above it in a run that
learns: there the loss falls in the other directions while the steepest one wavers. A run that fails for
another reason may be at that edge as well, so a loss that stays takes a fifth more. The whole
interval has to lie beyond the limit. With other data on every step single batches prove nothing: then the
mean curvature of new batches along directions fixed beforehand counts, which is that of the mean loss.

## References

- LeCun, Simard, Pearlmutter: Automatic learning rate maximization (1993): 2 / curvature.
- Cohen, Kaur, Li, Kolter, Talwalkar: Gradient Descent on Neural Networks Typically Occurs at the Edge
  of Stability (2021).
- Cohen, Ghorbani, Krishnan, Agarwal et al.: Adaptive Gradient Methods at the Edge of Stability (2022):
  the bound of Adam, on the preconditioned Hessian.
- Mahsereci, Hennig: Probabilistic Line Searches for Stochastic Optimization (2015): slopes along a step
  under noise.
- You, Gitman, Ginsburg: Large Batch Training of Convolutional Networks (2017): the ratio of update to
  weights.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Finding, Severity
from defib.core.run import RunView
from defib.diagnosis.case_steps import CASES
from defib.diagnosis.measures.answer import Answer, answer
from defib.diagnosis.measures.consecutive import consecutive
from defib.diagnosis.measures.learning import Outcome
from defib.diagnosis.measures.pace import pace
from defib.diagnosis.measures.rise import onset, risen
from defib.diagnosis.measures.slip import slip_that_killed
from defib.diagnosis.measures.stability import how_to_measure, load
from defib.diagnosis.rule import Case, Consequence, Limit, Rule

_OVERFLOWS = (
    Cause.NON_FINITE_FORWARD,
    Cause.NON_FINITE_LOSS,
    Cause.NON_FINITE_BACKWARD,
    Cause.NON_FINITE_UPDATE,
)


class LrTooHigh(Rule):
    """Steps as large as the weights, or a loss that runs away."""

    slug = "lr-too-high"
    fault = Fault.LR_TOO_HIGH
    title = "steps so large that the gradient they follow no longer holds"
    rank = 34
    causes = (
        Cause.STEPS_BEYOND_STABILITY,
        Cause.STEP_LARGER_THAN_WEIGHTS,
        Cause.LOSS_RUNS_AWAY,
        Cause.STEPS_OVERSHOOT,
    )
    limits = (
        Limit(
            name="single",
            default=1.0,
            unit="1",
            meaning="largest update over the weights",
            reason="an update of the weights' own size replaces them: the gradient was that of another "
            "network",
        ),
        Limit(
            name="lasting",
            default=0.1,
            unit="1",
            meaning="median update over the weights",
            reason="ten such steps replace the weights; usual values are a thousandth",
        ),
        Limit(
            name="replaced",
            default=10.0,
            unit="1",
            meaning="way walked over the size of the weights, in a run that ends at the best constant's "
            "level although its loss still falls",
            reason="weights that were replaced ten times over have not only just begun",
        ),
        Limit(
            name="restless",
            default=0.01,
            unit="1",
            meaning="median update over the weights, below which a long way is not held against the steps",
            reason="a hundred such steps replace the weights; usual values are a thousandth",
        ),
        Limit(
            name="rise",
            default=10.0,
            unit="1",
            meaning="largest finite loss over the first one",
            reason="noise and warm-up raise a loss severalfold at most; a stable step never does",
        ),
        Limit(
            name="rise_lasting",
            default=1.5,
            unit="1",
            meaning="loss over the first one, where it stays up to the end of the run",
            reason="steps below 2 / curvature lower the loss; half as much again, to the end, is no noise",
        ),
        Limit(
            name="overshoot",
            default=1.5,
            unit="1",
            meaning="least length of the steps, at 95 %, over the way to the lowest point ahead, where every "
            "step has the same data",
            reason="half of what a step gains on its way down it loses again on its way up; noise that is "
            "independent of the data (dropout) gives 1 at most",
        ),
        Limit(
            name="overshoot_mixed",
            default=2.0,
            unit="1",
            meaning="the same, where the data differs from step to step",
            reason="batches that take turns can feign 2, and nothing beyond it",
        ),
        Limit(
            name="load",
            default=1.0,
            unit="1",
            meaning="rate x largest curvature over what the optimiser can follow, in a run whose loss rises "
            "above its start, or from its lowest point",
            reason="the bound of the optimiser's own recurrence, beyond which the error grows",
        ),
        Limit(
            name="load_at_rest",
            default=1.2,
            unit="1",
            meaning="the same, in a run whose loss stays",
            reason="runs at the edge of stability waver around 1; a fifth more multiplies the error of "
            "gradient descent by 1.4 in each step",
        ),
        Limit(
            name="slip",
            default=3.0,
            unit="1",
            meaning="learning rate over its median before",
            reason="warm-up and restarts change the rate by less from one step to the next",
        ),
    )
    consequences = (
        Consequence(
            rule="zero-gradient",
            causes=(Cause.BLOCKED, Cause.DEAD_LAYER),
            harmful=True,
            delay=-1,
            why="dead and saturated units pass nothing back",
        ),
        Consequence(
            rule="dead-unit",
            harmful=True,
            causes=(Cause.DIED_AT_STEP, Cause.DEAD_INPUT),
            why="a large update throws units off for every sample",
        ),
        Consequence(
            rule="dead-unit",
            harmful=True,
            when=(Cause.STEP_LARGER_THAN_WEIGHTS,),
            causes=(Cause.BORN_DEAD,),
            delay=-1,
            why="units that would wake up while the layers below move are given nothing to wake up to",
        ),
        Consequence(
            rule="saturated-unit", harmful=True, delay=0, why="a large update makes large pre-activations"
        ),
        Consequence(
            rule="exploding-gradient", harmful=True, delay=1, why="each step multiplies the next gradient"
        ),
        Consequence(
            rule="vanishing-gradient", harmful=True, delay=0, why="dead and saturated units pass no gradient"
        ),
        Consequence(rule="non-finite", harmful=True, causes=_OVERFLOWS, why="growing steps overflow"),
        Consequence(
            rule="constant-predictor", harmful=True, delay=-1, why="dead and saturated units pass nothing on"
        ),
        Consequence(
            rule="update-lost", harmful=True, delay=-1, why="weights this large swallow later updates"
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        numbers = _load(run)
        for finding in self._judged(run, answer(run)):
            told = finding.evidence if finding.cause is Cause.STEPS_BEYOND_STABILITY else ()
            evidence = told or (*finding.evidence, *numbers)
            yield replace(finding, evidence=evidence, try_next=how_to_measure(run))

    def _judged(self, run: RunView, state: Answer) -> Iterable[Finding]:
        if state.state.kept:
            yield from self._overshoots(run, state)
        if state.state.outcome is Outcome.LEARNING and state.late:
            yield from self._replaced(run, state)
        if not state.failing or slip_that_killed(run, self.limit("slip")):
            return
        beyond = list(self._beyond(run, state))
        if beyond:
            yield from beyond
            return
        steps = pace(run)
        if steps is not None:
            large = np.flatnonzero(steps.ratio >= self.limit("single"))
            typical = float(np.median(steps.ratio))
            if len(large) or typical >= self.limit("lasting"):
                first = int(steps.steps[large[0]]) if len(large) else int(steps.steps[0])
                top = float(steps.ratio[large[0]]) if len(large) else typical
                yield self.found(
                    Cause.STEP_LARGER_THAN_WEIGHTS,
                    Severity.ERROR,
                    f"the update of step {first} is {top:.3g} times as large as the weights",
                    evidence=(*steps.evidence, *_rate(run, first), *_overshoot(run), *state.evidence),
                    since_step=first,
                )
                return
        away = list(self._runs_away(run, state))
        yield from away or self._overshoots(run, state)

    def _beyond(self, run: RunView, state: Answer) -> Iterable[Finding]:
        """The finding from the curvature itself: rate x curvature is more than can be followed."""
        since = onset(run.loss, self.limit("rise_lasting"))
        away = since is not None and state.state.outcome is Outcome.DIVERGING
        found = load(run, until=since if away else None)
        if away and found is not None and not found.same_data and found.value > self.limit("load"):
            found = load(run, until=run.steps)  # too few batches before the rise tell for certain
        limit = self.limit("load" if away or state.state.relapsed else "load_at_rest")
        if found is None or not found.interval.low > limit:
            return
        product = found.value * found.bound
        yield self.found(
            Cause.STEPS_BEYOND_STABILITY,
            Severity.ERROR,
            f"rate x largest curvature is {product:.4g}, and {run.optimizers[0].kind} with these settings "
            f"follows no more than {found.bound:.4g}: the error along the steepest direction grows",
            evidence=(*found.evidence, *_rate(run, found.first), *_overshoot(run), *state.evidence),
            since_step=found.first,
        )

    def _replaced(self, run: RunView, state: Answer) -> Iterable[Finding]:
        """The finding from how far the weights walked to end where the best constant is."""
        steps = pace(run)
        if steps is None or not state.tied or steps.moved < self.limit("replaced"):
            return
        typical = float(np.median(steps.ratio))
        if typical < self.limit("restless"):
            return
        yield self.found(
            Cause.STEP_LARGER_THAN_WEIGHTS,
            Severity.WARNING,
            f"the weights walked {steps.moved:.3g} times their own size, in steps of {typical:.1%} of it, "
            "and the loss is where the best constant's is",
            evidence=(*steps.evidence, *_overshoot(run), *state.evidence),
            since_step=int(steps.steps[0]),
        )

    def _overshoots(self, run: RunView, state: Answer) -> Iterable[Finding]:
        """The finding from pairs of steps: the loss does not fall because each step goes too far."""
        pairs = consecutive(run)
        if pairs is None:
            return
        limit = self.limit("overshoot" if pairs.same_data else "overshoot_mixed")
        if not pairs.overshoot_interval.low > limit:
            return
        yield self.found(
            Cause.STEPS_OVERSHOOT,
            Severity.WARNING if state.state.kept else Severity.ERROR,
            f"the steps are {pairs.overshoot:.2f} times as long as the way to the lowest point ahead of them",
            evidence=(*pairs.steep, *_rate(run, pairs.first), *state.evidence),
            since_step=pairs.first,
        )

    def _runs_away(self, run: RunView, state: Answer) -> Iterable[Finding]:
        """The finding from the stream of losses: it rose, and it did not come down again."""
        if not state.state.stuck:
            return
        stayed = state.state.outcome is Outcome.DIVERGING and np.isfinite(state.state.end)
        times = self.limit("rise_lasting") if stayed else self.limit("rise")
        rise = risen(run.loss, times)
        if rise is None or rise.steps < 3:
            return
        yield self.found(
            Cause.LOSS_RUNS_AWAY,
            Severity.ERROR,
            f"the loss rose from {rise.start:.3g} to {rise.top:.3g}, "
            f"beyond {times:.3g} times its start from step {rise.first} on",
            evidence=(
                Evidence(name="largest finite loss", value=rise.top, unit="loss"),
                Evidence(name="steps above that", value=rise.steps, unit="steps"),
                *_rate(run, rise.first),
                *_overshoot(run),
                *state.evidence,
            ),
            since_step=max(rise.first - 1, 0),
        )

    CASES: ClassVar[tuple[Case, ...]] = CASES


def _load(run: RunView) -> tuple[Evidence, ...]:
    """Rate x curvature, where it was measured."""
    found = load(run)
    return () if found is None else found.evidence


def _overshoot(run: RunView) -> tuple[Evidence, ...]:
    """The length of the steps, where it was measured."""
    pairs = consecutive(run)
    return pairs.steep if pairs is not None and np.isfinite(pairs.overshoot) else ()


def _rate(run: RunView, step: int) -> tuple[Evidence, ...]:
    """The learning rate at that step."""
    if not run.optimizers:
        return ()
    series = run.optimizers[0].lr
    at = np.flatnonzero(series.steps == step)
    return (Evidence(name="learning rate", value=float(series.values[at[0]])),) if len(at) else ()
