"""Dropout takes so much of the signal that what is left is mostly chance.

## What it measures

The share that each dropout takes away in training, read off the graph: the probability that a fused
kernel keeps, or a mask of zeros and 1 / (1 - p) that the activations are multiplied with. It does not
matter whether it was written as a module or as a function.

## Why it hurts

Dropout multiplies what it leaves by 1 / (1 - p). A sum over U units of like size keeps its mean and gets
a variance of p / (1 - p) / U times its square: at p = 0.9 nine times what it is at p = 0.5, again in every
layer that has one. Which units were left says more about the result than the input does.

## Causes

- `signal-dropped`: four fifths of a layer's outputs or more are dropped, and the run has not, or hardly,
  beaten the best constant answer.

## Prognosis

It does not pass: the mask is drawn anew on every step. Wider layers, with the same number of units left
over, would bear it.

## Example

`Dropout(0.9)` behind each of four hidden layers, where the paper's "keep probability 0.9" was meant. The
loss stays at ln 10, and the gradients of two batches have nothing in common.

## False alarms

A run that learns is not reported, whatever it drops: its loss is a fifth below the best constant's, or
that is not known and it falls. The loss in training is that of the thinned network; one that hardly learns
there may answer better once dropout is off, and this rule does not see it.

## References

- Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout (2014), section 7.3: the test error is
  flat where 0.4 to 0.8 of the units are kept, and rises steeply below 0.2.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.run import Event, RunView
from defib.diagnosis.case_parts import CLASSES, objective_of
from defib.diagnosis.cases import Plan, falling_loss, flat_loss, run_of
from defib.diagnosis.measures.answer import answer
from defib.diagnosis.rule import Case, Expected, Limit, Rule, harms


class DrownedSignal(Rule):
    """A signal that is lost in the chance of dropout."""

    slug = "drowned-signal"
    fault = Fault.VANISHING
    title = "dropout takes so much that what is left is mostly chance"
    rank = 22
    causes = (Cause.SIGNAL_DROPPED,)
    limits = (
        Limit(
            name="share",
            default=0.8,
            unit="1",
            meaning="share of a layer's outputs that is dropped",
            reason="the error rises steeply where a fifth of the units or fewer are kept (Srivastava et "
            "al. 2014, section 7.3); published networks drop a half",
        ),
    )
    consequences = harms(
        ("constant-predictor", "the answers differ by chance, not by the input"),
        ("exploding-gradient", "what is left is multiplied by 1 / (1 - p) in every layer"),
        ("vanishing-gradient", "most ways back are cut on every step"),
        ("dead-unit", "units that hardly ever get a gradient are pushed about by chance"),
        ("lr-too-high", "gradients that are mostly chance need small steps"),
        ("lr-too-low", "steps that follow chance lead nowhere"),
        ("gradient-noise", "most of what a gradient says is which units were left"),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding, for the layer behind which most is dropped."""
        last: dict[str, Event] = {str(e.data["layer"]): e for e in run.of_kind("dropout")}
        strong = [e for e in last.values() if e.data["share"] >= self.limit("share")]
        state = answer(run)
        if not strong or not (state.failing or state.late):
            return
        worst = max(strong, key=lambda e: float(e.data["share"]))
        share = float(worst.data["share"])
        hopeless = state.failing or state.tied
        yield self.found(
            Cause.SIGNAL_DROPPED,
            Severity.ERROR if hopeless else Severity.WARNING,
            f"dropout takes {share:.0%} of what {worst.data['layer'] or 'the model'} gives"
            + (f", and so much behind {_layers(len(strong) - 1)}" if len(strong) > 1 else ""),
            evidence=(
                Evidence(name="share that is dropped", value=share),
                Evidence(name="layers behind which so much is dropped", value=len(strong), unit="layers"),
                *state.evidence,
            ),
            confidence=Confidence.EXACT,
            layer=str(worst.data["layer"]),
            since_step=max(worst.step, 0),
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="nine tenths are dropped behind two layers",
            build=lambda: _dropping(flat_loss(), fc1=0.9, fc2=0.9),
            expect=(
                Expected(cause=Cause.SIGNAL_DROPPED, severity=Severity.ERROR, layer="fc1", since_step=0),
            ),
        ),
        Case(
            name="nine tenths, and a little is learned",
            build=lambda: _dropping(falling_loss(start=3.0, end=1.9), fc1=0.9),
            expect=(Expected(cause=Cause.SIGNAL_DROPPED, severity=Severity.WARNING, layer="fc1"),),
        ),
        Case(name="a half is what everybody drops", build=lambda: _dropping(falling_loss(), fc1=0.5)),
        Case(name="nine tenths in a run that learns", build=lambda: _dropping(falling_loss(), fc1=0.9)),
    )


def _dropping(loss: np.ndarray[tuple[int], np.dtype[np.float64]], **shares: float) -> RunView:
    """A classifier with these dropouts behind its layers."""
    events = [Event(step=0, kind="dropout", data={"layer": p, "share": s}) for p, s in shares.items()]
    run = run_of(Plan(path="fc1"), Plan(path="fc2"), loss=loss, events=events)
    return replace(run, objective=objective_of(CLASSES))


def _layers(count: int) -> str:
    return "one more layer" if count == 1 else f"{count} more layers"
