"""Steps so small that the run ends before it got anywhere.

## What it measures

How far the weights walked in the whole run, in units of their own size; how much of that way is
straight (from the distance of a sample of the weights from where they began); and what the run got
for it.

## Why it hurts

Nothing is broken: gradients arrive and are followed. But training needs the weights to move by a
fair part of their size, and a run that moved them by a hundredth of it ends next to where it began.
Where all updates point the same way, one step of their sum would have done the same.

## Causes

- `steps-too-small`: all updates together did not lead far, or they still all point the same way
  after many steps.
- `lr-zero`: the learning rate is exactly zero, from the start or for most of the run.

## Prognosis

It gets there in the end: at this pace in as many steps more as the way left is longer.

## Example

A CNN on digits with SGD at a learning rate of 0.0001: in 220 steps the weights move by 0.4 % of their
size, and the loss comes down to what the best constant costs.

## False alarms

Fine-tuning moves the weights of a trained network little, but its loss is far below that of a
constant: it is not reported. Neither is a run that learns, unless all of its steps go the same way
and it is far from its end (a warm-up that never ends), nor one whose way is a random walk. Where
gradients vanish or units are dead, that is the finding, and this one is listed under it. Of a run that still
goes on nothing is said in its first steps, nor while its learning rate rises: how far it will get is not
known yet.

## References

- Chizat, Oyallon, Bach: On Lazy Training in Differentiable Programming (2019).
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
from defib.core.series import Series
from defib.diagnosis.case_parts import CLASSES, objective_of, sizes_of, stepped
from defib.diagnosis.cases import Plan, falling_loss, flat_loss, run_of
from defib.diagnosis.measures.answer import Answer, answer
from defib.diagnosis.measures.consecutive import consecutive
from defib.diagnosis.measures.learning import Outcome
from defib.diagnosis.measures.pace import Pace, pace
from defib.diagnosis.rule import Case, Consequence, Expected, Limit, Rule


class LrTooLow(Rule):
    """All steps together lead nowhere."""

    slug = "lr-too-low"
    fault = Fault.LR_TOO_LOW
    title = "steps so small that the run ends before it got anywhere"
    rank = 56
    causes = (Cause.STEPS_TOO_SMALL, Cause.LR_ZERO)
    limits = (
        Limit(
            name="moved",
            default=0.01,
            unit="1",
            meaning="way walked in the whole run over the size of the weights",
            reason="to first order the network is then still the one that was drawn, to a hundredth",
        ),
        Limit(
            name="moved_stuck",
            default=0.1,
            unit="1",
            meaning="the same, in a run whose loss does not fall",
            reason="features form when weights move by a fair part of their size; a tenth of it is within "
            "what random drawing makes one network differ from the next",
        ),
        Limit(
            name="straight",
            default=0.5,
            unit="1",
            meaning="way covered over way walked",
            reason="random steps cover 1 / sqrt(steps) of their way, a seventh after 50; at one half the "
            "same way could have been walked in half of the steps or fewer, each as many times larger",
        ),
        Limit(
            name="directed",
            default=4.0,
            unit="1",
            meaning="the same times the root of the number of steps, in a run whose loss does not get "
            "anywhere and yet falls",
            reason="of a random walk it is 1; at four the steps have a common direction that the noise of "
            "the batches only hides, and larger steps follow it further",
        ),
        Limit(
            name="one_way",
            default=0.9,
            unit="1",
            meaning="the same, in a run that learns",
            reason="at nine tenths all updates are one: a single step of their sum would have led to the "
            "same place",
        ),
        Limit(
            name="steps",
            default=200,
            unit="steps",
            meaning="fewest steps over which a straight way is held against the run, and fewest of a run "
            "that still goes on",
            reason="a direction that holds for hundreds of steps allows steps hundreds of times larger",
        ),
        Limit(
            name="zero",
            default=0.5,
            unit="1",
            meaning="share of the steps whose learning rate is exactly zero",
            reason="most of the run then does nothing",
        ),
        Limit(
            name="idle",
            default=0.9,
            unit="1",
            meaning="the same, whatever the loss says of the run",
            reason="no schedule that is meant spends nine tenths of a training on no step at all",
        ),
    )
    consequences = (
        Consequence(rule="constant-predictor", delay=-1, why="the answer has not moved from where it began"),
        Consequence(
            rule="update-lost", delay=-1, why="the smaller the steps, the more of them are rounded away"
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        state = answer(run)
        zero = self._zero(run, state)
        if zero is not None:
            yield zero
            return
        steps = pace(run)
        if self._too_early(run):
            return
        blind = state.state.outcome in {Outcome.UNKNOWN, Outcome.DIVERGING} or state.state.relapsed
        if steps is None or blind or not _any_gradient(run):
            return
        stuck = state.state.outcome is Outcome.NOT_LEARNING
        still = steps.moved <= self.limit("moved") and (state.failing or state.unfinished)
        short = steps.moved <= self.limit("moved_stuck") and stuck
        sure = self.limit("directed") / max(run.steps, 1) ** 0.5
        straight = (
            stuck
            and steps.moved <= 1
            and run.steps >= self.limit("steps")
            and steps.straight >= min(sure, self.limit("straight"))
            and _falls(run)
        )
        creeps = self._creeps(run, state, steps)
        if not (still or short or straight or creeps):
            return
        yield self.found(
            Cause.STEPS_TOO_SMALL,
            Severity.ERROR if state.failing else Severity.WARNING,
            f"in {run.steps} steps the weights walked {steps.moved:.2%} of their own size"
            + (" and still all in one direction" if steps.straight >= self.limit("straight") else ""),
            evidence=(*steps.evidence, *_direction(run), *state.evidence),
            since_step=0,
        )

    def _too_early(self, run: RunView) -> bool:
        """Whether a run still goes on, and it is not known yet how far its steps will lead.

        The way grows with every step, and under a warm-up faster than their number.

        Returns:
            True in the first steps, and while the rate of any optimiser is above its usual one.
        """
        if run.facts.get("status") != "running":
            return False
        rates = [o.lr.values for o in run.optimizers if len(o.lr) > 1]
        return run.steps < self.limit("steps") or any(bool(rate[-1] > np.median(rate)) for rate in rates)

    def _creeps(self, run: RunView, state: Answer, steps: Pace) -> bool:
        """Whether a run that learns could have had the same in far fewer steps, and is far from its end.

        Its weights moved by less than a tenth, every step went on where the one before had gone, and
        the loss, still above half of the best constant's, still falls.

        Returns:
            False where the best constant's loss is not known.
        """
        return bool(
            steps.moved <= self.limit("moved_stuck")
            and run.steps >= self.limit("steps")
            and steps.straight >= self.limit("one_way")
            and state.state.end >= 0.5 * state.constant_loss
            and _falls(run)
        )

    def _zero(self, run: RunView, state: Answer) -> Finding | None:
        """A learning rate of zero for most of the run."""
        rates = [o.lr for o in run.optimizers if len(o.lr)]
        if not rates or len(rates) != len(run.optimizers):
            return None
        share = min(float((rate.values == 0).mean()) for rate in rates)
        harmful = state.failing or state.unfinished
        if share < self.limit("zero" if harmful else "idle"):
            return None
        first = min(int(rate.steps[np.argmax(rate.values == 0)]) for rate in rates)
        return self.found(
            Cause.LR_ZERO,
            Severity.ERROR if harmful else Severity.WARNING,
            f"the learning rate is zero on {share:.0%} of the steps",
            evidence=(Evidence(name="share of the steps with a rate of zero", value=share), *state.evidence),
            since_step=first,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="200 steps of a hundred-thousandth",
            build=lambda: _walk(flat_loss(), 1e-5),
            expect=(Expected(cause=Cause.STEPS_TOO_SMALL, severity=Severity.ERROR, since_step=0),),
        ),
        Case(
            name="the loss falls, but only to what a constant costs",
            build=lambda: _walk(falling_loss(start=3.2, end=2.0), 1e-5),
            expect=(Expected(cause=Cause.STEPS_TOO_SMALL, severity=Severity.WARNING),),
        ),
        Case(
            name="larger steps that all point the same way",
            build=lambda: _walk(_creeping(), 2e-4, covered=0.036),
            expect=(Expected(cause=Cause.STEPS_TOO_SMALL, severity=Severity.ERROR),),
        ),
        Case(
            name="steps with a common direction that noise hides",
            build=lambda: _straight(np.linspace(2.31, 2.26, 400), covered=0.045, ratio=4e-4),
            expect=(Expected(cause=Cause.STEPS_TOO_SMALL, severity=Severity.ERROR),),
        ),
        Case(
            name="the same length of way as a random walk",
            build=lambda: _straight(np.linspace(2.31, 2.26, 400), covered=0.03, ratio=4e-4),
        ),
        Case(
            name="all steps of a run that learns go the same way, and it ends early",
            build=lambda: _straight(falling_loss(400, start=3.0, end=1.6), covered=0.046),
            expect=(Expected(cause=Cause.STEPS_TOO_SMALL, severity=Severity.WARNING),),
        ),
        Case(
            name="the same, but its steps turn about",
            build=lambda: _straight(falling_loss(400, start=3.0, end=1.6), covered=0.008),
        ),
        Case(
            name="a noisy loss that only seems to have fallen and risen again",
            build=lambda: _walk(_noisy(), 1e-5),
            expect=(Expected(cause=Cause.STEPS_TOO_SMALL, severity=Severity.ERROR),),
        ),
        Case(
            name="a learning rate of zero",
            build=lambda: stepped(_walk(flat_loss(), 0.0), lr=0.0),
            expect=(Expected(cause=Cause.LR_ZERO, severity=Severity.ERROR, since_step=0),),
        ),
        Case(
            name="a learning rate of zero in a run whose loss says little",
            build=lambda: stepped(_walk(falling_loss(start=1.0, end=0.9), 0.0), lr=0.0),
            expect=(Expected(cause=Cause.LR_ZERO, severity=Severity.WARNING, since_step=0),),
        ),
        Case(
            name="a run that still goes on, and has only begun",
            build=lambda: _going(_walk(flat_loss(79), 1e-5)),
        ),
        Case(
            name="a run that still goes on, while its rate rises",
            build=lambda: _going(stepped(_walk(flat_loss(400), 1e-5), lr=[i * 1e-6 for i in range(400)])),
        ),
        Case(
            name="a run that still goes on, long enough to tell",
            build=lambda: _going(_walk(flat_loss(400), 1e-5)),
            expect=(Expected(cause=Cause.STEPS_TOO_SMALL, severity=Severity.ERROR),),
        ),
        Case(name="fine-tuning", build=lambda: _walk(falling_loss(start=0.9, end=0.2), 1e-5)),
        Case(name="usual steps in a network that learns", build=lambda: _walk(falling_loss(), 1e-3)),
    )


def _walk(loss: np.ndarray[tuple[int], np.dtype[np.float64]], ratio: float, covered: float = 1e-4) -> RunView:
    """A run whose updates are that small; its bias begins at zero and covers that way."""
    sizes = {"fc1.weight": (1.0, ratio), "fc1.bias": (0.0, ratio), "head.weight": (1.0, ratio)}
    run = run_of(Plan(path="fc1"), loss=loss, norms=sizes_of(sizes, end={"fc1.bias": covered}))
    return replace(run, objective=objective_of({**CLASSES, "loss": 2.2}))


def _going(run: RunView) -> RunView:
    """The same, while its script is still at work."""
    return replace(run, facts={**run.facts, "status": "running"})


def _straight(
    loss: np.ndarray[tuple[int], np.dtype[np.float64]], covered: float, ratio: float = 1e-4
) -> RunView:
    """A run of steps of that share of the weights that ends that far from where it began."""
    run = _walk(loss, ratio)
    (optimizer,) = run.optimizers
    at = np.arange(1, 40) * 10
    away = Series(steps=at, values=covered * at / at[-1])
    return replace(run, optimizers=(replace(optimizer, displacement=away),))


def _noisy() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A level loss whose batches differ by a factor of two."""
    t = np.arange(600)
    return np.asarray(2.3 * np.exp(0.5 * np.sin(2.4 * t) + 0.4 * np.sin(0.31 * t)))


def _creeping() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A loss without noise that falls by half a percent."""
    return np.asarray(np.linspace(2.303, 2.292, 200))


def _direction(run: RunView) -> tuple[Evidence, ...]:
    """Whether consecutive gradients point the same way: what steps this small leave undone."""
    pairs = consecutive(run)
    return pairs.noisy if pairs is not None else ()


def _any_gradient(run: RunView) -> bool:
    """Whether there is a gradient to follow at all."""
    return run.norms is not None and bool((np.nan_to_num(run.norms.gradient) > 0).any())


def _falls(run: RunView) -> bool:
    """Whether the loss, however slowly, falls to the end."""
    values = run.loss.values
    late = block_medians(values[len(values) // 2 :], 16)
    return bool(falling(late) < 0.01)
