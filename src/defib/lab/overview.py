"""The whole lab at a glance: every claim with what was measured about it, every experiment's runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from defib.lab.dials import Scale
from defib.lab.estimate import Estimate, Verdict
from defib.lab.experiment import Experiment, Part
from defib.lab.index import Claim
from defib.lab.result import Result, across

UNTESTABLE = "untestable"
NOT_MEASURED = "not measured"
WORDS = (*map(str, Verdict), UNTESTABLE, NOT_MEASURED)
"""What can become of a claim, in the order in which it is told."""
HOLDS = {Verdict.TRUE: "holds", Verdict.FALSE: "fails", Verdict.UNDECIDED: "open"}
"""What can become of one part of a claim."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """One claim.

    Attributes:
        claim: The row of the list.
        verdict: What was measured; None if nothing was.
        parts: Each part of it with the experiment that measured it (of the first seed).
    """

    claim: Claim
    verdict: Verdict | None
    parts: tuple[tuple[str, Part], ...]

    @property
    def word(self) -> str:
        """One of :data:`WORDS`."""
        if self.verdict is not None:
            return str(self.verdict)
        return UNTESTABLE if self.claim.untestable else NOT_MEASURED

    @property
    def differs(self) -> bool:
        """Whether measurement decided otherwise than proof and literature."""
        open_ones = {None, Verdict.UNDECIDED}
        return not open_ones & {self.verdict, self.claim.judged} and self.verdict != self.claim.judged


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One experiment.

    Attributes:
        cls: Its class.
        results: Its runs, one a seed; empty if it was not run.
        verdicts: The verdict on each of its rows over those runs.
    """

    cls: type[Experiment[Any]]
    results: tuple[Result, ...]
    verdicts: Mapping[str, Verdict]


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Everything that a page of the lab tells.

    Attributes:
        claims: Every claim, in the order of the list.
        experiments: Every experiment, in the order of the index.
        left_out: Results that settle nothing, and why: changed dials, an experiment that is gone.
    """

    claims: tuple[Told, ...]
    experiments: tuple[Shown, ...]
    left_out: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """How many claims there are of each of :data:`WORDS`."""
        return {word: sum(told.word == word for told in self.claims) for word in WORDS}


def overview(
    results: Sequence[Result], claims: Mapping[str, Claim], experiments: Mapping[str, type[Experiment[Any]]]
) -> Overview:
    """Sorts results by claim and by experiment.

    Of an experiment's results those of its largest scale count, one a seed. Those whose dials
    were changed by hand settle nothing.

    Args:
        results: In any order.
        claims: Every row.
        experiments: Every experiment.

    Returns:
        The overview.
    """
    scales = list(Scale)
    kept: dict[str, list[Result]] = {slug: [] for slug in experiments}
    left_out = []
    for result in results:
        slug = result.order.slug
        if slug not in experiments:
            left_out.append(f"{slug}: there is no such experiment any more")
        elif result.order.overrides:
            changed = ", ".join(f"{name}={value}" for name, value in sorted(result.order.overrides.items()))
            left_out.append(f"{slug}: run with other dials ({changed})")
        else:
            kept[slug].append(result)
    for slug, found in kept.items():
        largest = max((scales.index(r.order.scale) for r in found), default=0)
        by_seed = {r.order.seed: r for r in found if scales.index(r.order.scale) == largest}
        kept[slug] = [by_seed[seed] for seed in sorted(by_seed)]
    settled = across([result for found in kept.values() for result in found])
    parts: dict[str, list[tuple[str, Part]]] = {}
    for slug, found in kept.items():
        for part in found[0].measurement.parts if found else ():
            parts.setdefault(part.row, []).append((slug, part))
    return Overview(
        claims=tuple(
            Told(claim=claim, verdict=settled.get(row), parts=tuple(parts.get(row, ())))
            for row, claim in claims.items()
        ),
        experiments=tuple(
            Shown(cls=cls, results=tuple(kept[slug]), verdicts=across(kept[slug]))
            for slug, cls in experiments.items()
        ),
        left_out=tuple(sorted(set(left_out))),
    )


def number(estimate: Estimate) -> str:
    """A number with its interval, if it has one."""
    unit = "" if estimate.unit == "1" else f" {estimate.unit}"
    if estimate.low == estimate.high:
        return f"{estimate.value:.4g}{unit}"
    return f"{estimate.value:.4g}{unit} [{estimate.low:.4g}, {estimate.high:.4g}]"


def figures(estimate: Estimate) -> str:
    """A number with its interval and the repetitions behind it."""
    exact = estimate.low == estimate.high
    return number(estimate) + (" (exact)" if exact else f", n = {estimate.n}")


def printed(part: Part) -> str:
    """The figure that somebody else printed, with its source; "" if there is none."""
    if part.published is None or not math.isfinite(part.published.value):
        return ""
    return f"{part.published.value:.4g} ({part.published.source})"


def command(shown: Shown) -> str:
    """How to run an experiment again as it was run."""
    words = ["defib", "lab", "run", shown.cls.slug]
    if shown.results:
        order = shown.results[0].order
        words += ["--scale", str(order.scale)] if order.scale is not Scale.SMALL else []
        words += ["--seed", str(order.seed)] if order.seed else []
    return " ".join(words)
