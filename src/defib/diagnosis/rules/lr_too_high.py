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

## Why it hurts

A gradient describes the loss near the weights where it was taken. A step as large as the weights
lands in another network: there the loss may be higher, units may be off for every sample, bounded
activations may be saturated. Beyond 2 / curvature every step multiplies the error.

## Causes

- `step-larger-than-weights`: an update was as large as the weights themselves, or updates stay at a
  tenth of them, or the weights walked ten times their size and the loss is still the best constant's.
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
healthy and not reported. The whole 95 % interval has to lie beyond the limit.

## References

- LeCun, Simard, Pearlmutter: Automatic learning rate maximization (1993): 2 / curvature.
- Cohen, Kaur, Li, Kolter, Talwalkar: Gradient Descent on Neural Networks Typically Occurs at the Edge
  of Stability (2021).
- Mahsereci, Hennig: Probabilistic Line Searches for Stochastic Optimization (2015): slopes along a step
  under noise.
- You, Gitman, Ginsburg: Large Batch Training of Convolutional Networks (2017): the ratio of update to
  weights.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from defib.core.finding import Cause, Evidence, Fault, Finding, Severity
from defib.core.run import RunView
from defib.diagnosis.case_parts import CLASSES, objective_of, pairs_of, sizes_of
from defib.diagnosis.cases import Plan, broken_loss, falling_loss, flat_loss, run_of
from defib.diagnosis.measures.answer import Answer, answer
from defib.diagnosis.measures.consecutive import consecutive
from defib.diagnosis.measures.learning import Outcome
from defib.diagnosis.measures.pace import pace
from defib.diagnosis.rule import Case, Consequence, Expected, Limit, Rule

_OVERFLOWS = (
    Cause.NON_FINITE_FORWARD,
    Cause.NON_FINITE_LOSS,
    Cause.NON_FINITE_BACKWARD,
    Cause.NON_FINITE_UPDATE,
)


_MOMENT = 10
"""Steps within which what a jump of the rate does to the units shows; its momentum is spent by then."""


class LrTooHigh(Rule):
    """Steps as large as the weights, or a loss that runs away."""

    slug = "lr-too-high"
    fault = Fault.LR_TOO_HIGH
    title = "steps so large that the gradient they follow no longer holds"
    rank = 34
    causes = (Cause.STEP_LARGER_THAN_WEIGHTS, Cause.LOSS_RUNS_AWAY, Cause.STEPS_OVERSHOOT)
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
        state = answer(run)
        if state.state.kept:
            yield from self._overshoots(run, state)
        if state.state.outcome is Outcome.LEARNING and state.late:
            yield from self._replaced(run, state)
        if not state.failing or _slip_that_killed(run, self.limit("slip")):
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
        values = run.loss.values
        finite = np.isfinite(values)
        if not finite.any() or not state.state.stuck:
            return
        start = float(np.median(values[finite][:3]))
        stayed = state.state.outcome is Outcome.DIVERGING and np.isfinite(state.state.end)
        rise = self.limit("rise_lasting") if stayed else self.limit("rise")
        above = np.flatnonzero(finite & (values > rise * start))
        if start <= 0 or len(above) < 3:
            return
        step = int(run.loss.steps[above[0]])
        yield self.found(
            Cause.LOSS_RUNS_AWAY,
            Severity.ERROR,
            f"the loss rose from {start:.3g} to {float(values[finite].max()):.3g}, "
            f"beyond {rise:.3g} times its start from step {step} on",
            evidence=(
                Evidence(name="largest finite loss", value=float(values[finite].max()), unit="loss"),
                Evidence(name="steps above that", value=len(above), unit="steps"),
                *_rate(run, step),
                *_overshoot(run),
                *state.evidence,
            ),
            since_step=max(step - 1, 0),
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="the first step replaces the weights and nothing is learned",
            build=lambda: _stepping(flat_loss(), 5.0),
            expect=(Expected(cause=Cause.STEP_LARGER_THAN_WEIGHTS, severity=Severity.ERROR, since_step=0),),
        ),
        Case(
            name="every step moves the weights by a fifth",
            build=lambda: _stepping(flat_loss(), 0.2),
            expect=(Expected(cause=Cause.STEP_LARGER_THAN_WEIGHTS, severity=Severity.ERROR),),
        ),
        Case(
            name="the loss grows until it is infinite",
            build=lambda: run_of(Plan(path="fc1"), loss=_growing(), readings=False),
            expect=(Expected(cause=Cause.LOSS_RUNS_AWAY, severity=Severity.ERROR),),
        ),
        Case(
            name="the loss ends twice as high as it began",
            build=lambda: run_of(Plan(path="fc1"), loss=np.linspace(1.0, 2.0, 200), readings=False),
            expect=(Expected(cause=Cause.LOSS_RUNS_AWAY, severity=Severity.ERROR),),
        ),
        Case(
            name="steps from one side of the valley to the other",
            build=lambda: _bouncing(flat_loss(), after=0.9),
            expect=(Expected(cause=Cause.STEPS_OVERSHOOT, severity=Severity.ERROR),),
        ),
        Case(name="the same while the loss falls", build=lambda: _bouncing(falling_loss(), after=0.9)),
        Case(
            name="half of the gradient is noise of its own",
            build=lambda: _bouncing(flat_loss(level=2.0), after=0.45),
        ),
        Case(
            name="batches that take turns point against each other",
            build=lambda: _bouncing(flat_loss(level=2.0), after=0.9, taking_turns=True),
        ),
        Case(
            name="weights replaced ten times over, and a loss that falls to the best constant's",
            build=lambda: _restless(0.07),
            expect=(Expected(cause=Cause.STEP_LARGER_THAN_WEIGHTS, severity=Severity.WARNING),),
        ),
        Case(name="small steps on the same way down", build=lambda: _restless(0.002)),
        Case(name="a large step in a network that learns", build=lambda: _stepping(falling_loss(), 5.0)),
        Case(
            name="small steps in a network that learns",
            build=lambda: _stepping(falling_loss(), 0.001),
        ),
    )


def _restless(ratio: float) -> RunView:
    """A classifier that walks at that pace, and whose loss, still falling, is at a constant's level."""
    run = _stepping(np.linspace(2.6, 2.2, 400), ratio)
    return replace(run, objective=objective_of(CLASSES, loss=2.2))


def _slip_that_killed(run: RunView, times: float) -> bool:
    """Whether the rate jumped in mid-run and at least half of a layer fell silent for good right then."""
    for optimizer in run.optimizers[:1]:
        rate = optimizer.lr.values
        jumps = np.flatnonzero(rate[1:] > times * rate[:-1]) + 1
        for jump in jumps[rate[jumps - 1] > 0]:
            step = int(optimizer.lr.steps[jump])
            for live in run.liveness.values():
                fell = (live.last_alive >= step - 1) & (live.last_alive <= step + _MOMENT)
                if len(fell) and (fell & (live.silent_steps > 2 * _MOMENT)).mean() >= 0.5:
                    return True
    return False


def _bouncing(
    loss: np.ndarray[tuple[int], np.dtype[np.float64]], after: float, taking_turns: bool = False
) -> RunView:
    """A run whose gradients point back along the last step with that cosine."""
    run = replace(run_of(Plan(path="fc1"), loss=loss), pairs={0: pairs_of(after)})
    objective = objective_of(CLASSES)
    if taking_turns:
        turns = np.asarray(np.arange(len(objective.steps)) % 2, dtype=np.float64)
        objective = replace(objective, columns={**objective.columns, "input_mean": turns})
    return replace(run, objective=objective)


def _overshoot(run: RunView) -> tuple[Evidence, ...]:
    """The length of the steps, where it was measured."""
    pairs = consecutive(run)
    return pairs.steep if pairs is not None and np.isfinite(pairs.overshoot) else ()


def _stepping(loss: np.ndarray[tuple[int], np.dtype[np.float64]], ratio: float) -> RunView:
    """A run whose updates are that large against the weights."""
    sizes = {"fc1.weight": (1.0, ratio), "head.weight": (1.0, ratio)}
    return replace(run_of(Plan(path="fc1"), loss=loss), norms=sizes_of(sizes))


def _growing() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A loss that doubles from step to step and is NaN from step 100 on."""
    loss = broken_loss(200, at=100)
    loss[:100] = 2.0 ** np.arange(100)
    return loss


def _rate(run: RunView, step: int) -> tuple[Evidence, ...]:
    """The learning rate at that step."""
    if not run.optimizers:
        return ()
    series = run.optimizers[0].lr
    at = np.flatnonzero(series.steps == step)
    return (Evidence(name="learning rate", value=float(series.values[at[0]])),) if len(at) else ()
