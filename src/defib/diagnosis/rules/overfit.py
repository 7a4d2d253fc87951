"""The training loss falls, and the loss on data held out does not follow.

## What it measures

The validation loss that the script logged with ``defib.log("val_loss", value)``, beside the training
loss that is recorded on every step. Evaluations run without a backward pass, so they are not seen
unless they are logged; a name that holds "val", "test", "dev" or "eval" and "loss" is one.

## Why it hurts

What is learned from then on is the training data, not the task. The weights of the best evaluation
would have done better than the last ones.

## Causes

- `overfitted`: the validation loss fell, and has been rising since, while the training loss fell
  further.
- `not-generalising`: the validation loss ends no lower than it began, while the training loss fell by
  a fifth and more: what is learned holds for the training data alone, or the two sets differ.

## Prognosis

It does not turn back by itself in most runs; very long ones with weight decay are an exception
(double descent, grokking).

## Example

A network of 256 units on 64 digits, 16 of them labelled at random: the validation loss is lowest (1.07)
after 20 steps and 2.48 after 400, while the training loss goes to zero.

## False alarms

A rise must be a trend over at least five evaluations since the best one, and not noise; one that
loses less than half of what was gained is information, less than a tenth is not mentioned.
Validation losses rise while accuracy still improves, because wrong answers grow more certain; so the
finding never is an error.

## References

- Prechelt: Early Stopping, But When? (1998).
- Nakkiran et al.: Deep Double Descent (2019).
- Power et al.: Grokking (2022).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Finding, Severity
from defib.core.inference import falling
from defib.core.run import RunView
from defib.core.series import Series
from defib.diagnosis.cases import Plan, falling_loss, flat_loss, run_of
from defib.diagnosis.measures.learning import LEARNED
from defib.diagnosis.measures.logged import validation_loss
from defib.diagnosis.rule import Case, Expected, Limit, Rule

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Course:
    """A validation loss: its first number, its best one and where, its level at the end."""

    first: float
    best: float
    best_step: int
    end: float
    since: Array


class Overfit(Rule):
    """The validation loss does not follow the training loss."""

    slug = "overfit"
    fault = Fault.LABEL_OR_DATA_BUG
    title = "the training loss falls, the validation loss does not follow"
    rank = 70
    causes = (Cause.OVERFITTED, Cause.NOT_GENERALISING)
    limits = (
        Limit(
            name="evaluations",
            default=5,
            unit="evaluations",
            meaning="fewest evaluations since the best one",
            reason="four numbers in order are chance once in 24, five once in 120",
        ),
        Limit(
            name="p",
            default=0.01,
            unit="1",
            meaning="p-value of the upward trend since the best evaluation",
            reason="one false alarm in a hundred runs whose validation loss is noise",
        ),
        Limit(
            name="noticed",
            default=0.1,
            unit="1",
            meaning="share of the validation loss's fall that is lost again at which it is mentioned",
            reason="less than a tenth is within what another draw of the validation data would give",
        ),
        Limit(
            name="lost",
            default=0.5,
            unit="1",
            meaning="share of the validation loss's fall that is lost again at which it is a warning",
            reason="half of what was gained is gone; the same limit tells a relapse of the training loss",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        logged = validation_loss(run)
        course = _course(logged[1]) if logged is not None else None
        if logged is None or course is None or len(course.since) <= self.limit("evaluations"):
            return
        gained, lost = course.first - course.best, course.end - course.best
        if falling(-course.since) >= self.limit("p") or not lost > self.limit("noticed") * gained:
            return
        never = course.end >= course.first and gained <= LEARNED * abs(course.first)
        fall = _training_fall(run, 0 if never else course.best_step)
        if not fall > (LEARNED if never else 0.0):
            return
        harmful = never or lost >= self.limit("lost") * gained
        yield self.found(
            Cause.NOT_GENERALISING if never else Cause.OVERFITTED,
            Severity.WARNING if harmful else Severity.INFO,
            f"{logged[0]} rose from {course.best:.3g} at step {course.best_step} to {course.end:.3g}, while "
            f"the training loss fell by {fall:.0%}",
            evidence=(
                Evidence(name=f"{logged[0]}, first", value=course.first, unit="loss"),
                Evidence(name=f"{logged[0]}, lowest", value=course.best, unit="loss"),
                Evidence(name=f"{logged[0]}, at the end", value=course.end, unit="loss"),
                Evidence(name="evaluations since then", value=len(course.since) - 1, unit="evaluations"),
                Evidence(name="fall of the training loss meanwhile", value=fall),
            ),
            since_step=course.best_step,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="the validation loss falls and then doubles",
            build=lambda: _validated(falling_loss(), [2.3, 1.5, 1.0, 1.1, 1.3, 1.5, 1.7, 1.9, 2.0, 2.1]),
            expect=(Expected(cause=Cause.OVERFITTED, severity=Severity.WARNING, since_step=40),),
        ),
        Case(
            name="it loses a tenth of what was gained",
            build=lambda: _validated(falling_loss(), [2.3, 1.5, 1.0, 1.01, 1.03, 1.05, 1.07, 1.1, 1.12, 1.2]),
            expect=(Expected(cause=Cause.OVERFITTED, severity=Severity.INFO),),
        ),
        Case(
            name="it only ever rises",
            build=lambda: _validated(falling_loss(), list(np.linspace(2.3, 5.0, 10))),
            expect=(Expected(cause=Cause.NOT_GENERALISING, severity=Severity.WARNING),),
        ),
        Case(
            name="it falls with the training loss",
            build=lambda: _validated(falling_loss(), list(np.linspace(2.3, 0.5, 10))),
        ),
        Case(
            name="it is at rest, with noise",
            build=lambda: _validated(
                falling_loss(), [2.3, 1.2, 1.0, 1.05, 1.01, 1.06, 1.02, 1.04, 1.05, 1.01]
            ),
        ),
        Case(name="nothing was logged", build=lambda: run_of(Plan(path="fc1"), loss=falling_loss())),
        Case(
            name="a rise at two evaluations",
            build=lambda: _validated(falling_loss(), [2.3, 2.0, 1.8, 1.6, 1.4, 1.2, 1.1, 1.0, 1.3, 1.4]),
        ),
        Case(
            name="the training loss does not fall either",
            build=lambda: _validated(flat_loss(level=2.0)[:40], list(np.linspace(2.0, 2.2, 10)), every=4),
        ),
    )


def _course(series: Series) -> _Course | None:
    """A validation loss in short; None for fewer than two finite numbers."""
    finite = np.isfinite(series.values)
    values, steps = np.asarray(series.values[finite], dtype=np.float64), series.steps[finite]
    if len(values) < 2:
        return None
    best = int(np.argmin(values))
    since = values[best:]
    return _Course(
        first=float(values[0]),
        best=float(values[best]),
        best_step=int(steps[best]),
        end=float(np.median(since[-max(1, len(since) // 4) :])),
        since=since,
    )


def _training_fall(run: RunView, since: int) -> float:
    """By which share the training loss fell from about step ``since`` to the end; NaN if unknown."""
    loss = run.loss
    finite = np.isfinite(loss.values)
    values, steps = loss.values[finite], loss.steps[finite]
    if len(values) < 20:
        return float("nan")
    width = max(5, len(values) // 20)
    at = int(np.searchsorted(steps, since))
    around = values[max(0, at - width // 2) : max(0, at - width // 2) + width]
    if not len(around) or not np.median(around) > 0:
        return float("nan")
    return float(1 - np.median(values[-width:]) / np.median(around))


def _validated(loss: Array, values: list[float], every: int = 20) -> RunView:
    """A run that logged those validation losses."""
    steps = np.arange(len(values), dtype=np.int64) * every
    logged = {"val_loss": Series(steps=steps, values=np.array(values, dtype=np.float64))}
    return replace(run_of(Plan(path="fc1"), loss=loss), logged=logged)
