"""Most samples of one class are answered with one other class, in a model that knows the rest.

## What it measures

In the batches read in the second half of the run: for each class, with which class its samples are
answered. Of classifiers with up to 64 classes whose loss is one of torch's own.

## Why it hurts

The class is lost as a whole. Where all other classes are recognised, it is mostly the data: two
classes that look alike, two labels for one thing, or labels that were exchanged in part.

## Causes

- `classes-confused`: more than half of a class's samples are answered with one and the same other
  class.

## Prognosis

What the inputs do not tell apart stays confused; what they do is told apart in the end, if the labels
are right.

## Example

Digits on which seven of ten eights carry the label of a three: after 400 steps 63 of the 79 samples that
are still called eights are answered as threes.

## False alarms

It is information: two classes may truly look alike, and the rest of training may still tell them
apart. Nothing is said of a class with few samples, nor of a model that knows no class well.

## References

- Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels (2021).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Finding, Severity
from defib.core.inference import clopper_pearson
from defib.core.run import RunView
from defib.diagnosis.case_parts import confusion_of
from defib.diagnosis.cases import Plan, run_of
from defib.diagnosis.measures.confusion import confusion
from defib.diagnosis.rule import Case, Expected, Limit, Rule


class ConfusedClasses(Rule):
    """One class is taken for another."""

    slug = "confused-classes"
    fault = Fault.LABEL_OR_DATA_BUG
    title = "most samples of one class are answered with one other class"
    rank = 92
    causes = (Cause.CLASSES_CONFUSED,)
    limits = (
        Limit(
            name="share",
            default=0.5,
            unit="1",
            meaning="lower 95 % bound of the share of a class's samples that get the other's answer",
            reason="the model would do better by exchanging the two names",
        ),
        Limit(
            name="right",
            default=0.7,
            unit="1",
            meaning="share of right answers to all samples",
            reason="below it confusion is everywhere, and no single pair of classes is the matter",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """One finding for all such classes together."""
        table = confusion(run, since=run.steps // 2)
        if table is None or not table.sum() or np.trace(table) < self.limit("right") * table.sum():
            return
        wrong = table - np.diag(np.diag(table))
        found = []
        for true, answered in enumerate(wrong.argmax(axis=1)):
            hits, count = int(wrong[true, answered]), int(table[true].sum())
            if clopper_pearson(hits, count).low > self.limit("share"):
                found.append((true, int(answered), hits, count))
        if not found:
            return
        words = [f"{hits} of {n} samples of class {t} are answered with class {a}" for t, a, hits, n in found]
        yield self.found(
            Cause.CLASSES_CONFUSED,
            Severity.INFO,
            "; ".join(words),
            evidence=(
                Evidence(name="classes answered as another", value=len(found), unit="classes"),
                Evidence(name="share of right answers", value=float(np.trace(table) / table.sum())),
                Evidence(name="labels read", value=int(table.sum()), unit="labels"),
            ),
            layer=run.objective.output_layer if run.objective is not None else "",
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="one class of three is answered as another",
            build=lambda: _answered([[90, 5, 5], [2, 96, 2], [5, 70, 25]]),
            expect=(Expected(cause=Cause.CLASSES_CONFUSED, severity=Severity.INFO),),
        ),
        Case(
            name="all classes are recognised", build=lambda: _answered([[90, 9, 1], [5, 90, 5], [2, 3, 95]])
        ),
        Case(name="few samples of the class", build=lambda: _answered([[90, 5, 5], [2, 96, 2], [0, 1, 0]])),
        Case(name="nothing is recognised", build=lambda: _answered([[30, 70, 0], [30, 40, 30], [0, 70, 9]])),
    )


def _answered(table: list[list[int]]) -> RunView:
    """A classifier with that table of labels and answers in each of four windows."""
    return replace(run_of(Plan(path="fc1")), exhibits=confusion_of(table))
