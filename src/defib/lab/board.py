"""The scoreboard from its pairs: every rule's and every pathology's figures."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from defib.core.catalogue import entries
from defib.core.cause import Cause
from defib.core.scoring import Rate, RuleScore, rate
from defib.diagnosis.rule import Rule
from defib.lab.pairs import HEALTHY, Failed, Pair, pathologies
from defib.lab.pathology import Pathology


@dataclass(frozen=True, kw_only=True)
class PathologyScore:
    """One pathology.

    Attributes:
        pathology: Its slug.
        title: What is planted.
        rule: The rule whose business it is.
        harmful: Whether it must do harm to count.
        pairs: Pairs that were run.
        took: Sick runs in which the plant took.
        counted: Those that count: with the harm, if it must do some.
        named: Counted runs in which the rule is named as :class:`RuleScore` asks.
        cause: Those of them in which one of its causes is.
        others: What was read first in counted runs in which it was not named, with how often.
    """

    pathology: str
    title: str
    rule: str
    harmful: bool
    pairs: int
    took: int
    counted: int
    named: Rate
    cause: int
    others: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Board:
    """The whole scoreboard.

    Attributes:
        made: Date, versions, command.
        sick: Sick runs that count.
        healthy: Twins that count.
        left_out: Runs that do not count, by reason.
        detected: Counted harmful sick runs with a warning or worse.
        right_rule: Those whose first finding is of the rule that it should be.
        accepted: Those whose first finding is of that rule or names the same thing.
        right_fault: Those whose first finding has the right word of the vocabulary.
        false_alarms: Counted twins with a warning or worse.
        faults: Faults of the watcher's own in all runs.
        rules: Every rule of ours.
        pathologies: Every pathology.
        alarmed: Healthy runs with a warning or worse: pathology, draw, rule, cause.
        schema: Name and version of this structure.
    """

    made: dict[str, str]
    sick: int
    healthy: int
    left_out: dict[str, int]
    detected: Rate
    right_rule: Rate
    accepted: Rate
    right_fault: Rate
    false_alarms: Rate
    faults: int
    rules: tuple[RuleScore, ...]
    pathologies: tuple[PathologyScore, ...]
    alarmed: tuple[str, ...]
    schema: str = field(default="defib.lab-scoreboard/1")


def board(done: Sequence[Pair | Failed], made: dict[str, str]) -> Board:
    """Scores what was run.

    Args:
        done: Pairs and failures.
        made: Date, versions, command, as they are to be told.

    Returns:
        The scoreboard.
    """
    pairs = sorted(
        (p for p in done if isinstance(p, Pair)), key=lambda p: (p.trial.pathology, p.trial.number)
    )
    sick = [p for p in pairs if p.sick_counts]
    twins = [p for p in pairs if p.twin_counts]
    harmed = [p for p in sick if _of(p).harmful]
    return Board(
        made=made,
        sick=len(sick),
        healthy=len(twins),
        left_out=_left_out(done),
        detected=_share(bool(p.sick.alarms) for p in harmed),
        right_rule=_share(named(p) for p in harmed),
        accepted=_share(_accepted(p) for p in harmed),
        right_fault=_share(bool(p.sick.alarms) and p.sick.alarms[0].fault in _faults(_of(p)) for p in harmed),
        false_alarms=_share(bool(p.twin.alarms) for p in twins),
        faults=sum(p.sick.faults + p.twin.faults for p in pairs),
        rules=tuple(_rule(slug, sick, twins) for slug in sorted(_rules())),
        pathologies=tuple(_pathology(cls, pairs) for cls in pathologies().values()),
        alarmed=tuple(
            f"{p.trial.pathology} {p.trial.number} (skill {p.twin.skill:.2f}): {found.rule}, {found.cause}"
            for p in twins
            for found in p.twin.alarms
        ),
    )


def named(pair: Pair) -> bool:
    """Whether a sick run is named as it should be: first and as a warning if it is harmed, else at all."""
    cls = _of(pair)
    if not cls.harmful:
        return any(found.rule == cls.rule for found in pair.sick.findings)
    first = pair.sick.first
    return first is not None and first.alarming and first.rule == cls.rule


def _accepted(pair: Pair) -> bool:
    first = pair.sick.first
    return named(pair) or (first is not None and first.alarming and first.rule in _of(pair).also)


def _of(pair: Pair) -> type[Pathology]:
    return pathologies()[pair.trial.pathology]


def _rules() -> dict[str, type[Rule]]:
    return {cls.slug: cls for cls in entries(Rule, "defib.diagnosis.rules")}  # type: ignore[type-abstract]


def _faults(cls: type[Pathology]) -> set[str]:
    """Words of the vocabulary that are right for a pathology."""
    rule = _rules()[cls.rule]
    return {str(rule.fault_of(Cause(cause))) for cause in cls.causes}


def _share(hits: Iterable[bool]) -> Rate:
    known = list(hits)
    return rate(sum(known), len(known))


def _left_out(done: Sequence[Pair | Failed]) -> dict[str, int]:
    """Runs that were made and do not count, by reason."""
    pairs = [p for p in done if isinstance(p, Pair)]
    harmful = [p for p in pairs if p.sick.took and _of(p).harmful]
    return {
        "the plant did not take": sum(not p.sick.took for p in pairs),
        "the plant took and did no harm": sum(p.twin.skill >= HEALTHY and not p.harmed for p in harmful),
        "no healthy twin to measure the harm by": sum(p.twin.skill < HEALTHY for p in harmful),
        "the twin did not learn": sum(p.twin.skill < HEALTHY for p in pairs),
        "the twin has the condition by itself": sum(p.twin.skill >= HEALTHY and p.twin.took for p in pairs),
        "the pair broke": sum(isinstance(p, Failed) for p in done),
    }


def _rule(slug: str, sick: Sequence[Pair], twins: Sequence[Pair]) -> RuleScore:
    own = [p for p in sick if _of(p).rule == slug]
    others = [p for p in sick if slug not in {_of(p).rule, *_of(p).also}]
    free = [p for p in twins if _of(p).rule == slug and not _of(p).harmful]
    return RuleScore(
        rule=slug,
        planted=len(own),
        sensitivity=_share(named(p) for p in own),
        accepted=_share(_accepted(p) for p in own),
        specificity=_share(all(found.rule != slug for found in p.twin.alarms) for p in twins),
        quiet=_share(all(found.rule != slug for found in p.twin.findings) for p in free),
        misnamed=_share(
            p.sick.first is not None and p.sick.first.alarming and p.sick.first.rule == slug for p in others
        ),
    )


def _pathology(cls: type[Pathology], pairs: Sequence[Pair]) -> PathologyScore:
    own = [p for p in pairs if p.trial.pathology == cls.slug]
    counted = [p for p in own if p.sick_counts]
    right = [p for p in counted if named(p)]
    missed = [p.sick.first for p in counted if not named(p)]
    return PathologyScore(
        pathology=cls.slug,
        title=cls.title,
        rule=cls.rule,
        harmful=cls.harmful,
        pairs=len(own),
        took=sum(p.sick.took for p in own),
        counted=len(counted),
        named=rate(len(right), len(counted)),
        cause=sum(any(f.rule == cls.rule and f.cause in cls.causes for f in p.sick.findings) for p in right),
        others=dict(
            Counter(f"{f.rule}/{f.cause} ({f.severity})" if f else "nothing" for f in missed).most_common()
        ),
    )
