"""Most tokens of the input are one and the same, padding as a rule.

## What it measures

In the batches that were read, of a model whose first layer is an embedding: which token occurs most
often, and what share of all tokens it is. Of taggers (a label a token, up to 64 classes) also what share of
the labels the most frequent one is, and what the loss has left to learn of the others.

## Why it hurts

Every layer works on those positions, too. Where they are not masked they enter means, norms and
attention; where they are, most of the time goes into nothing.

## Causes

- `repeated-token`: one token makes up half of the input or more.
- `padding-in-loss`: one label has that very share of the labels, none of which the loss ignores: it counts
  the padding like any other token. A mean over tokens then hardly depends on the others. Where these still
  cost half of what a constant answer to them costs, or more, it is a warning.

## Prognosis

The data stays as it is: sequences of like length in one batch need less padding.

## Example

Sequences of 3 to 20 tokens padded to 64: 82 % of the tokens are the padding, index 0. The finding is
information.

## False alarms

`repeated-token` is information only: a model that masks its padding learns all the same. Padding in the loss
is a warning only where the other labels are not learned after a hundred steps. A loss with class weights, or
one that is masked before its mean, is not asked about. Bytes of sparse files and
one-symbol alphabets are so by nature.

## References

- Krell, Kosec, Perez, Fitzgibbon: Efficient Sequence Packing without Cross-contamination (2021).
"""

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Finding, Severity
from defib.core.run import Exhibit, RunView
from defib.diagnosis.case_parts import CLASSES, confusion_of, objective_of
from defib.diagnosis.cases import Plan, falling_loss, run_of
from defib.diagnosis.measures.answer import answer
from defib.diagnosis.measures.confusion import confusion
from defib.diagnosis.rule import Case, Consequence, Expected, Limit, Rule

_SHORTEST = 100
"""Fewer steps than this are the beginning of a run."""


class RepeatedToken(Rule):
    """One token makes up most of the input."""

    slug = "repeated-token"
    fault = Fault.HEALTHY
    title = "most tokens of the input are one and the same"
    rank = 94
    causes = (Cause.REPEATED_TOKEN, Cause.PADDING_IN_LOSS)
    faults = MappingProxyType({Cause.PADDING_IN_LOSS: Fault.LABEL_OR_DATA_BUG})
    consequences = tuple(
        Consequence(rule=rule, when=(Cause.PADDING_IN_LOSS,), delay=-1, why="the frequent class is padding")
        for rule in ("class-imbalance", "confused-classes")
    )
    limits = (
        Limit(
            name="share",
            default=0.5,
            unit="1",
            meaning="share of one token, in the mean over batches",
            reason="from a half on the model spends more on that token than on all others together",
        ),
        Limit(
            name="batches",
            default=5,
            unit="batches",
            meaning="fewest batches read",
            reason="one batch may be short of long sequences by chance, five hardly",
        ),
        Limit(
            name="labels",
            default=500,
            unit="labels",
            meaning="fewest labels read whose most frequent one is held against the most frequent token",
            reason="a share of 500 is known to a few percent, so that few others look the same",
        ),
        Limit(
            name="apart",
            default=0.005,
            unit="1",
            meaning="most by which the shares of token and label differ",
            reason="where both are counted over the same positions they are the same number, but for "
            "rounding and for parts of large batches; other labels come as near by chance once in a hundred "
            "times",
        ),
        Limit(
            name="left",
            default=0.5,
            unit="1",
            meaning="loss at the end over what the other labels cost a model that knows only how "
            "frequent they are",
            reason="half of what there is to learn of them has not been learned",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        for exhibit in [e for e in run.exhibits if e.kind == "tokens"][-1:]:
            found = self._in_loss(run, exhibit)
            if found is not None:
                yield found
                return
        for exhibit in [e for e in run.exhibits if e.kind == "tokens"][-1:]:
            token, share, batches = (exhibit.facts.get(n, 0) for n in ("token", "share", "batches"))
            if share < self.limit("share") or batches < self.limit("batches"):
                continue
            yield self.found(
                Cause.REPEATED_TOKEN,
                Severity.INFO,
                f"{share:.0%} of the tokens of the input are token {token}",
                evidence=(
                    Evidence(name="share of the most frequent token", value=float(share)),
                    Evidence(name="batches read", value=int(batches), unit="batches"),
                ),
                layer=exhibit.path,
            )

    def _in_loss(self, run: RunView, tokens: Exhibit) -> Finding | None:
        """One label that is as frequent as the most frequent token, and counts."""
        table, objective, share = confusion(run), run.objective, float(tokens.facts.get("share", 0))
        if table is None or objective is None or share < self.limit("share"):
            return None
        labels = table.sum(axis=1)
        frequent, total = int(labels.argmax()), int(labels.sum())
        state = answer(run)
        # the best constant's cost is known only of an unweighted, unmasked mean
        counts = bool((objective.columns["ignored"] == 0).all()) and np.isfinite(state.constant_loss)
        if not counts or total < self.limit("labels"):
            return None
        if abs(labels[frequent] / total - share) > self.limit("apart"):
            return None
        rest = np.delete(labels, frequent) / total
        rest = rest[rest > 0]
        known = float(-(rest * np.log(rest / rest.sum())).sum()) if len(rest) > 1 else 0.0
        unlearned = run.steps >= _SHORTEST and known > 0 and state.state.end >= self.limit("left") * known
        return self.found(
            Cause.PADDING_IN_LOSS,
            Severity.WARNING if unlearned else Severity.INFO,
            f"label {frequent} is {labels[frequent] / total:.1%} of the labels, as token "
            f"{tokens.facts.get('token', 0)} is of the input: the loss counts the padding",
            evidence=(
                Evidence(name="share of the most frequent token", value=share),
                Evidence(name="share of the most frequent label", value=float(labels[frequent] / total)),
                Evidence(name="what the other labels cost one who knows how often they are", value=known),
                Evidence(name="labels read", value=total, unit="labels"),
                *state.evidence,
            ),
            layer=objective.output_layer,
            since_step=0,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a tagger whose loss counts the padding, and learns little else",
            build=lambda: _tagged(0.8, falling_loss(end=0.25)),
            expect=(Expected(cause=Cause.PADDING_IN_LOSS, severity=Severity.WARNING, layer="head"),),
        ),
        Case(
            name="the same, and the other labels are learned as well",
            build=lambda: _tagged(0.8, falling_loss(end=0.01)),
            expect=(Expected(cause=Cause.PADDING_IN_LOSS, severity=Severity.INFO),),
        ),
        Case(
            name="a tagger whose loss ignores the padding",
            build=lambda: _tagged(0.8, falling_loss(end=0.25), ignored=0.8),
            expect=(Expected(cause=Cause.REPEATED_TOKEN, severity=Severity.INFO, layer="embed"),),
        ),
        Case(
            name="a loss with class weights",
            build=lambda: _tagged(0.8, falling_loss(end=0.25), constant_loss=np.nan),
            expect=(Expected(cause=Cause.REPEATED_TOKEN, severity=Severity.INFO),),
        ),
        Case(
            name="padded sequences with one frequent label of their own",
            build=lambda: _tagged(0.9, falling_loss(end=0.25)),
            expect=(Expected(cause=Cause.REPEATED_TOKEN, severity=Severity.INFO),),
        ),
        Case(
            name="four of five tokens are padding",
            build=lambda: _fed(0.8),
            expect=(Expected(cause=Cause.REPEATED_TOKEN, severity=Severity.INFO, layer="embed"),),
        ),
        Case(name="a fifth of the tokens are padding", build=lambda: _fed(0.2)),
        Case(name="two batches say nothing", build=lambda: _fed(0.8, batches=2)),
    )


def _fed(share: float, batches: int = 20) -> RunView:
    """A model of sequences with that share of token 0."""
    facts = {"token": 0, "share": share, "batches": batches}
    return replace(
        run_of(Plan(path="fc1")), exhibits=(Exhibit(kind="tokens", path="embed", step=0, facts=facts),)
    )


def _tagged(share: float, loss: np.ndarray[tuple[int], np.dtype[np.float64]], /, **columns: float) -> RunView:
    """A tagger of three labels, the first 80 % of all, whose input has that share of token 0."""
    run = run_of(Plan(path="fc1"), loss=loss)
    tables = confusion_of([[800, 0, 0], [90, 10, 0], [80, 0, 20]], repeated=True)
    objective = objective_of({**CLASSES, "classes": 3, "ignored": 0.0, "constant_loss": 0.6, **columns})
    return replace(run, exhibits=(*tables, *_fed(share).exhibits), objective=objective)
