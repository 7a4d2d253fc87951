"""Steps so large that the gradient they follow no longer holds.

## What it measures

On sampled steps, the size of the update against the size of the weights, all tensors together; and
in the stream of losses, whether the loss ran away from where it started. Both only in a run that
fails.

## Why it hurts

A gradient describes the loss near the weights where it was taken. A step as large as the weights
lands in another network: there the loss may be higher, units may be off for every sample, bounded
activations may be saturated. Beyond 2 / curvature every step multiplies the error.

## Causes

- `step-larger-than-weights`: an update was as large as the weights themselves, or updates stay at a
  tenth of them.
- `loss-runs-away`: the loss rose by orders of magnitude above its start in finite numbers, or ended
  half as high again.

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
with the rate in its evidence.

## References

- LeCun, Simard, Pearlmutter: Automatic learning rate maximization (1993): 2 / curvature.
- You, Gitman, Ginsburg: Large Batch Training of Convolutional Networks (2017): the ratio of update to
  weights.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from defib.core.finding import Cause, Evidence, Fault, Finding, Severity
from defib.core.run import RunView
from defib.diagnosis.case_parts import sizes_of
from defib.diagnosis.cases import Plan, broken_loss, falling_loss, flat_loss, run_of
from defib.diagnosis.measures.answer import Answer, answer
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
    causes = (Cause.STEP_LARGER_THAN_WEIGHTS, Cause.LOSS_RUNS_AWAY)
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
                    evidence=(*steps.evidence, *_rate(run, first), *state.evidence),
                    since_step=first,
                )
                return
        yield from self._runs_away(run, state)

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
        Case(name="a large step in a network that learns", build=lambda: _stepping(falling_loss(), 5.0)),
        Case(
            name="small steps in a network that learns",
            build=lambda: _stepping(falling_loss(), 0.001),
        ),
    )


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
