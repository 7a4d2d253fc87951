"""Most tokens of the input are one and the same, padding as a rule.

## What it measures

In the batches that were read, of a model whose first layer is an embedding: which token occurs most
often, and what share of all tokens it is.

## Why it hurts

Every layer works on those positions, too. Where they are not masked they enter means, norms and
attention; where they are, most of the time goes into nothing.

## Causes

- `repeated-token`: one token makes up half of the input or more.

## Prognosis

The data stays as it is: sequences of like length in one batch need less padding.

## Example

Sequences of 3 to 20 tokens padded to 64: 82 % of the tokens are the padding, index 0. The finding is
information.

## False alarms

It is information only: a model that masks its padding learns all the same. Bytes of sparse files and
one-symbol alphabets are so by nature.

## References

- Krell, Kosec, Perez, Fitzgibbon: Efficient Sequence Packing without Cross-contamination (2021).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Finding, Severity
from defib.core.run import Exhibit, RunView
from defib.diagnosis.cases import Plan, run_of
from defib.diagnosis.rule import Case, Expected, Limit, Rule


class RepeatedToken(Rule):
    """One token makes up most of the input."""

    slug = "repeated-token"
    fault = Fault.HEALTHY
    title = "most tokens of the input are one and the same"
    rank = 94
    causes = (Cause.REPEATED_TOKEN,)
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
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
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

    CASES: ClassVar[tuple[Case, ...]] = (
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
