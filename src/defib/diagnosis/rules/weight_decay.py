"""Weight decay so strong that weights are forgotten faster than they are learned.

## What it measures

Learning rate times decay, from the settings of the optimiser: the share of itself that every weight
loses on every step. Its inverse is how many steps a weight remembers. And, on sampled steps, the size
of the update against the weights: |d| <= 2 s |w|, with s that share, means that the decay is at least
half of the step.

## Why it hurts

A weight follows the gradients of its last 1 / (lr decay) steps and nothing before. Where that is a
hundred steps or fewer, the network holds only what the last few batches told it, and its size is
set by the decay and not by the data.

## Causes

- `weights-forgotten`: weights shrink by a hundredth or more on every step. It is an error where the
  run fails and the decay led its first 1 / (lr decay) steps: what follows (updates as large as what is
  left of the weights, dead units, answers that are all the same) follows from it. Where the gradient
  led them, the steps themselves were too large, and this is a warning beside that.

## Prognosis

It does not pass unless the learning rate falls: the product counts.

## Example

AdamW with a decay of 10 at a learning rate of 0.003: a weight is halved in 23 steps, and the loss
stays at three quarters of where it began.

## False alarms

A run that learns well in spite of it is not reported: its loss has fallen below half of where it
began. Plain Adam adds the decay to the gradient and then divides by its size, so that it does not
shrink weights at that rate; it is not judged.

## References

- Loshchilov, Hutter: Decoupled Weight Decay Regularization (2019).
- Wang, Aitchison: How to set AdamW's weight decay as you scale model and dataset size (2024): the
  time scale 1 / (lr decay).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.run import RunView
from defib.diagnosis.case_parts import sizes_of, stepped
from defib.diagnosis.cases import Plan, falling_loss, flat_loss, run_of
from defib.diagnosis.measures.forgetting import forgetting
from defib.diagnosis.measures.learning import learning
from defib.diagnosis.rule import Case, Expected, Limit, Rule, harms


class WeightDecay(Rule):
    """Weights that are forgotten."""

    slug = "weight-decay"
    fault = Fault.LR_TOO_HIGH
    title = "weight decay takes weights away faster than they are learned"
    rank = 32
    causes = (Cause.WEIGHTS_FORGOTTEN,)
    limits = (
        Limit(
            name="memory",
            default=100,
            unit="steps",
            meaning="steps that a weight remembers: 1 / (learning rate times decay)",
            reason="usual settings remember ten thousand steps and more, the strongest in use a thousand",
        ),
        Limit(
            name="fallen",
            default=0.5,
            unit="1",
            meaning="loss at the end over that at the start, below which the run learned in spite of it",
            reason="what was forgotten as fast as it came would not have halved the loss",
        ),
    )
    consequences = harms(
        ("vanishing-gradient", "weights that shrink pass less and less on"),
        ("dead-unit", "weights that shrink leave the sign to the bias"),
        ("constant-predictor", "weights that shrink tell nothing apart"),
        ("lr-too-low", "what is taken away again leads nowhere"),
        (
            "lr-too-high",
            "the decay is a step of that size, and against weights that vanish any step is large",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        decay, state = forgetting(run), learning(run)
        known = state.end > self.limit("fallen") * state.start > 0
        if decay is None or decay.share * self.limit("memory") < 1 or not known:
            return
        loss = decay.share
        led = (Evidence(name="the decay's part of the first steps, at least", value=min(decay.part, 1.0)),)
        yield self.found(
            Cause.WEIGHTS_FORGOTTEN,
            Severity.ERROR if state.stuck and decay.leads else Severity.WARNING,
            f"weight decay takes {loss:.1%} of every weight on every step: it remembers {1 / loss:.0f} steps",
            evidence=(
                Evidence(name="learning rate times decay", value=loss, unit="per step"),
                Evidence(name="steps that a weight remembers", value=1 / loss, unit="steps"),
                *(led if np.isfinite(decay.part) else ()),
                *state.evidence,
            ),
            confidence=Confidence.EXACT,
            since_step=0,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="AdamW with a decay of 10",
            build=lambda: _decaying("AdamW", 10.0, flat_loss()),
            expect=(Expected(cause=Cause.WEIGHTS_FORGOTTEN, severity=Severity.WARNING),),
        ),
        Case(
            name="the same, and the steps are what the decay takes",
            build=lambda: _led(0.031),
            expect=(Expected(cause=Cause.WEIGHTS_FORGOTTEN, severity=Severity.ERROR),),
        ),
        Case(
            name="the same, and the gradient's steps are ten times as large",
            build=lambda: _led(0.3),
            expect=(Expected(cause=Cause.WEIGHTS_FORGOTTEN, severity=Severity.WARNING),),
        ),
        Case(name="the same in a run that learns", build=lambda: _decaying("AdamW", 10.0, falling_loss())),
        Case(name="an ordinary decay", build=lambda: _decaying("AdamW", 0.1, flat_loss())),
        Case(
            name="Adam, which divides the decay by its size",
            build=lambda: _decaying("Adam", 10.0, flat_loss()),
        ),
    )


def _decaying(kind: str, decay: float, loss: np.ndarray[tuple[int], np.dtype[np.float64]]) -> RunView:
    """A run at a learning rate of 0.003."""
    return stepped(run_of(Plan(path="fc1"), loss=loss), kind, lr=0.003, weight_decay=decay)


def _led(ratio: float) -> RunView:
    """A run with a decay of 10 that does not learn, whose updates are that large against the weights."""
    run = _decaying("AdamW", 10.0, flat_loss())
    return replace(run, norms=sizes_of({"fc1.weight": (1.0, ratio), "head.weight": (1.0, ratio)}))
