"""Some classes are so rare that the model gains by never answering with them.

## What it measures

In the batches that were read: how often each class is the label, and, in the second half of the run,
how often a sample of it is answered with it. Of classifiers with up to 64 classes whose loss is one of
torch's own.

## Why it hurts

The loss is a mean over samples, so a class of one in a hundred has a hundredth of the gradient. A
model that never answers with it loses a hundredth of its accuracy, and all of its use for that class.

## Causes

- `class-imbalance`: the most frequent class has ten times as many labels as the rarest, or more.

## Prognosis

Rare classes are learned last. If they are separable they are learned in the end, after as many
more steps as they are rarer.

## Example

Digits on which 14 of 182 ones carry the label 9, and no other image does, under a strong weight
decay: in the second half of 600 steps hardly any of them is answered with 9. The finding is a warning.
With 14 true nines, and no decay, they are recognised, and it is information.

## False alarms

Imbalance alone is information. It is a warning only where a rare class is answered hardly ever (at
most a tenth of the time, at 95 %) although the other classes are recognised and the loss is at rest.
A weighted loss is not asked about: what counts is the answers. Classes that never occur are not
rare but unused.

## References

- Johnson, Khoshgoftaar: Survey on deep learning with class imbalance (2019).
- Ye, Chen, Zhan, Chao: Identifying and Compensating for Feature Deviation in Imbalanced Deep Learning
  (2020).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Finding, Severity
from defib.core.inference import block_medians, clopper_pearson, falling
from defib.core.run import RunView
from defib.diagnosis.case_parts import confusion_of
from defib.diagnosis.cases import Plan, falling_loss, flat_loss, run_of
from defib.diagnosis.measures.confusion import Counts, confusion
from defib.diagnosis.rule import Case, Consequence, Expected, Limit, Rule

_SHORTEST = 100
"""Fewer steps than this are the beginning of a run."""
_TREND = 0.01
"""p-value of the trend of the loss below which it is still falling."""


class ClassImbalance(Rule):
    """Classes of very different frequency."""

    slug = "class-imbalance"
    fault = Fault.LABEL_OR_DATA_BUG
    title = "some classes are many times rarer than others"
    rank = 16
    causes = (Cause.CLASS_IMBALANCE,)
    limits = (
        Limit(
            name="ratio",
            default=10.0,
            unit="1",
            meaning="labels of the most frequent class over those of the rarest",
            reason="a decade; below it the rare class still has several samples in a usual batch",
        ),
        Limit(
            name="labels",
            default=500,
            unit="labels",
            meaning="fewest labels read",
            reason="a class that has a tenth of the frequency of one of two has 45 of 500, give or take 7",
        ),
        Limit(
            name="recognised",
            default=0.1,
            unit="1",
            meaning="upper 95 % bound of the share of a rare class's samples that are answered with it",
            reason="nine of ten are missed: the class is as good as not learned",
        ),
        Limit(
            name="others",
            default=0.7,
            unit="1",
            meaning="share of right answers to all other classes",
            reason="a model that has not learned these either has another trouble",
        ),
    )
    consequences = (
        Consequence(
            rule="confused-classes", delay=-1, why="a rare class is answered with the frequent one next to it"
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        table = confusion(run)
        if table is None or table.sum() < self.limit("labels"):
            return
        labels = table.sum(axis=1)
        present = np.flatnonzero(labels)
        if len(present) < 2 or labels.max() < self.limit("ratio") * labels[present].min():
            return
        rare = present[labels[present] * self.limit("ratio") <= labels.max()]
        missed = self._missed(confusion(run, since=run.steps // 2), rare) if _at_rest(run.loss.values) else []
        most, least = int(labels.argmax()), int(present[labels[present].argmin()])
        message = (
            f"class {least} has {labels[least]} of {labels.sum()} labels, class {most} has {labels[most]}"
        )
        if missed:
            message += f"; class {', '.join(map(str, missed))} is hardly ever the answer"
        yield self.found(
            Cause.CLASS_IMBALANCE,
            Severity.WARNING if missed else Severity.INFO,
            message,
            evidence=(
                Evidence(name="most labels over fewest", value=float(labels.max() / labels[least])),
                Evidence(name="classes with a tenth of the most, or less", value=len(rare), unit="classes"),
                Evidence(name="of these not recognised", value=len(missed), unit="classes"),
                Evidence(name="labels read", value=int(labels.sum()), unit="labels"),
            ),
            layer=run.objective.output_layer if run.objective is not None else "",
            since_step=0,
        )

    def _missed(self, late: Counts | None, rare: Counts) -> list[int]:
        """The rare classes that are hardly ever answered although the others are."""
        if late is None:
            return []
        others = np.setdiff1d(np.arange(len(late)), rare)
        known = late[others].sum()
        if not known or np.diag(late)[others].sum() < self.limit("others") * known:
            return []
        bounds = {int(c): clopper_pearson(int(late[c, c]), int(late[c].sum())) for c in rare}
        return [c for c, bound in bounds.items() if bound.high <= self.limit("recognised")]

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a rare class that is never the answer",
            build=lambda: _answered([[500, 10], [45, 0]]),
            expect=(Expected(cause=Cause.CLASS_IMBALANCE, severity=Severity.WARNING, since_step=0),),
        ),
        Case(
            name="a rare class that is recognised",
            build=lambda: _answered([[500, 10], [5, 40]]),
            expect=(Expected(cause=Cause.CLASS_IMBALANCE, severity=Severity.INFO),),
        ),
        Case(
            name="a rare class that may still be learned",
            build=lambda: replace(_answered([[500, 10], [45, 0]]), optimizers=run_of().optimizers),
            expect=(Expected(cause=Cause.CLASS_IMBALANCE, severity=Severity.INFO),),
        ),
        Case(name="one class is twice as frequent", build=lambda: _answered([[200, 10], [5, 100]])),
        Case(name="a class that never occurs", build=lambda: _answered([[99, 1, 0], [9, 200, 0], [0, 0, 0]])),
        Case(name="the same few labels again and again", build=lambda: _answered([[200, 0], [9, 0]], True)),
        Case(name="too few labels to tell", build=lambda: _answered([[50, 0], [2, 0]])),
    )


def _at_rest(loss: NDArray[np.float64]) -> bool:
    """Whether a loss has stopped falling: rare classes are learned last, and may still be to come."""
    late = block_medians(loss[len(loss) // 2 :], 16)
    return len(loss) >= _SHORTEST and falling(late) >= _TREND


def _answered(table: list[list[int]], repeated: bool = False) -> RunView:
    """A classifier with that table of labels and answers in each of four windows."""
    loss = np.concatenate([falling_loss(60, end=0.3), flat_loss(140, level=0.3)])
    return replace(run_of(Plan(path="fc1"), loss=loss), exhibits=confusion_of(table, repeated=repeated))
