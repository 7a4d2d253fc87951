"""The loss falls because single samples are learned by heart: the inputs tell nothing of the targets.

## What it measures

Whether the inputs tell the targets, with no network in between: in every batch read, whether samples
with like targets lie nearer to each other than the others (the bias-corrected distance correlation; see
`constant-predictor`). And where the loss falls: what helps on other samples, too, shows before they come
again, so that the loss falls within a pass over the data as it falls from pass to pass. What is learned of
single samples shows only when they come again: the loss goes down in a stair, a step for each pass, and
within a pass it stays or rises. The length of a pass is found by trying every one.

## Why it hurts

A network can learn any labels by heart, random ones as well. The loss looks like learning, and answers
to new samples are no better than a constant.

## Causes

- `learned-by-heart`: inputs and targets were shuffled apart, come from different rows, or have nothing
  to do with each other; the loss falls in a stair, or while one that the script logs for data held out
  does not, or it had not fallen at all in the first third of the run and has gained less than a fifth since.

## Prognosis

What was learned by heart helps on no other sample, however long it goes on.

## Example

Digits and their labels are shuffled, each on its own. The loss falls from 2.35 to 1.52 in 30 passes of 28
steps: by 0.03 from pass to pass, while it rises by 0.08 within a pass. The distance correlation of
512 images with their labels is 0.000 give or take 0.01; with their own labels it is 0.5.

## False alarms

Nothing is said where the inputs were not seen to tell nothing, nor where a loss that the script logs for
data held out has fallen. Parities, products, spirals and the exclusive or of two features among twenty show
no distance correlation either, and are learned: their loss falls within a pass as it does between them.

One that is fitted so slowly that it has gained less than a fifth (a sine of many periods) cannot be told
from labels without relation, and is reported like them.

What cannot be told either: labels without relation that are learned in a few passes, or in passes of few
steps, if the loss does not stay near the constant's for long; the stair drowns in the noise of its
batches. A loss on data held out tells it sooner. Of models with several inputs, or fed with tokens, nothing
is asked: what one input does not tell, two may, and words tell by their order.

## References

- Zhang, Bengio, Hardt, Recht, Vinyals: Understanding deep learning requires rethinking generalization
  (2017): random labels are learned by heart.
- Székely, Rizzo: The distance correlation t-test of independence in high dimension (2013).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.finding import Confidence, Finding, Severity
from defib.core.run import RunView
from defib.core.series import Series
from defib.diagnosis.case_parts import CLASSES, objective_of, related
from defib.diagnosis.cases import Plan, falling_loss, run_of, stair_loss
from defib.diagnosis.measures.answer import Answer, answer
from defib.diagnosis.measures.constant import TIE
from defib.diagnosis.measures.learning import LEARNED, Outcome
from defib.diagnosis.measures.logged import validation_loss
from defib.diagnosis.measures.passes import by_heart
from defib.diagnosis.measures.relation import NOTHING, relation
from defib.diagnosis.rule import Case, Expected, Limit, Rule, harms

_FEW = 3
"""Evaluations whose median stands for the end."""


class ByHeart(Rule):
    """A loss that falls although the inputs tell nothing."""

    slug = "by-heart"
    fault = Fault.LABEL_OR_DATA_BUG
    title = "the loss falls by single samples that are learned by heart"
    rank = 61
    causes = (Cause.LEARNED_BY_HEART,)
    limits = (
        NOTHING,
        Limit(
            name="chance",
            default=0.05,
            unit="1",
            meaning="p-value of a loss that falls from pass to pass and not within, over all lengths of a "
            "pass that were tried",
            reason="it is asked only where the inputs were seen to tell nothing, which few runs with a "
            "relation show",
        ),
    )
    consequences = harms(("overfit", "answers that were learned by heart are wrong for every other sample"))

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        state, link = answer(run), relation(run)
        if state.state.outcome is not Outcome.LEARNING or state.state.kept or _generalises(run):
            return
        if link is None or not link.nothing(self.limit("relation")):
            return
        stair = by_heart(run.loss, self.limit("chance"))
        if stair is not None:
            how = f"from one pass of {stair.steps} steps to the next and not within a pass"
        elif _held_out_stays(run):
            how = "while that on data held out does not"
        elif state.late and _no_better_early(run, state):
            how = "late and little"  # no proof: an intricate function that has hardly been fitted looks alike
        else:
            return
        yield self.found(
            Cause.LEARNED_BY_HEART,
            Severity.WARNING,
            f"the inputs of {link.samples} samples were not seen to tell anything of their targets, and the "
            f"loss falls {how}: single samples are learned by heart",
            evidence=(*state.evidence, *link.evidence, *(() if stair is None else stair.evidence)),
            confidence=Confidence.INFERRED,
            layer=run.objective.output_layer if run.objective is not None else "",
            since_step=0,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="random labels are learned pass by pass",
            build=lambda: _told(stair_loss(), 0.0),
            expect=(Expected(cause=Cause.LEARNED_BY_HEART, severity=Severity.WARNING, layer="head"),),
        ),
        Case(
            name="random labels, of which little was learned so far",
            build=lambda: _told(_late_loss(), 0.0),
            expect=(Expected(cause=Cause.LEARNED_BY_HEART, severity=Severity.WARNING),),
        ),
        Case(name="a stair where the inputs tell the targets", build=lambda: _told(stair_loss(), 0.3)),
        Case(
            name="a parity: no feature tells anything, and the loss falls within a pass, too",
            build=lambda: _told(falling_loss(), 0.0),
        ),
        Case(
            name="a stair, and the loss on data held out falls",
            build=lambda: replace(_told(stair_loss(), 0.0), logged={"val_loss": _falls()}),
        ),
        Case(
            name="the loss falls, that on data held out does not",
            build=lambda: replace(_told(falling_loss(), 0.0), logged={"val_loss": _stays()}),
            expect=(Expected(cause=Cause.LEARNED_BY_HEART, severity=Severity.WARNING),),
        ),
        Case(
            name="whether the inputs tell anything was not seen",
            build=lambda: _told(stair_loss(), float("nan")),
        ),
    )


def _held_out_stays(run: RunView) -> bool:
    """Whether a loss on data held out is logged and is no lower than at first."""
    logged = validation_loss(run)
    if logged is None or len(logged[1]) < 2 * _FEW:
        return False
    values = logged[1].values
    return float(np.median(values[-_FEW:])) >= (1 - TIE) * float(np.median(values[:_FEW]))


def _generalises(run: RunView) -> bool:
    """Whether a loss on data held out, if one is logged, fell clearly: something is learned for all."""
    logged = validation_loss(run)
    if logged is None or len(logged[1]) < _FEW:
        return False
    values = logged[1].values
    return float(np.median(values[-_FEW:])) < (1 - LEARNED) * float(values[0])


def _no_better_early(run: RunView, state: Answer) -> bool:
    """Whether the second sixth of the losses was no better than what the best constant costs."""
    values = run.loss.values[np.isfinite(run.loss.values)]
    early = values[len(values) // 6 : len(values) // 3]
    return bool(len(early) and np.mean(early) >= (1 - TIE) * state.constant_loss)


def _told(loss: np.ndarray[tuple[int], np.dtype[np.float64]], strength: float) -> RunView:
    """A classifier with that loss, whose inputs tell that much."""
    run = replace(run_of(Plan(path="fc1"), loss=loss), objective=objective_of(CLASSES))
    return related(run, strength)


def _late_loss() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A loss that begins to fall when half of the run is over, and loses a seventh."""
    steps = np.arange(200)
    return np.asarray(2.3 - 0.33 * np.maximum(steps - 100, 0) / 100 + 0.01 * np.sin(2.4 * steps))


def _falls() -> Series:
    return Series(steps=np.arange(10) * 20, values=np.linspace(2.3, 1.0, 10))


def _stays() -> Series:
    return Series(steps=np.arange(10) * 20, values=np.linspace(2.3, 2.4, 10))
