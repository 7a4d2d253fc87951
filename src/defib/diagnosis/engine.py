"""From a run to a diagnosis: every rule is asked, causes are put before their consequences."""

from collections.abc import Sequence
from dataclasses import replace

from defib.core.catalogue import entries
from defib.core.cause import Cause
from defib.core.config import Settings
from defib.core.coverage import Coverage
from defib.core.diagnosis import Diagnosis, NotRun, Verdict
from defib.core.errors import UsageError
from defib.core.evidence import DAMAGED
from defib.core.finding import Finding, Severity
from defib.core.run import RunView
from defib.diagnosis.aftermath import aftermath
from defib.diagnosis.coverage import coverage
from defib.diagnosis.measures.wires import Wires
from defib.diagnosis.prognosis.of_run import foretold
from defib.diagnosis.rule import Consequence, Place, Rule

PACKAGE = "defib.diagnosis.rules"
GROUP = "defib.rules"


def diagnose(run: RunView, settings: Settings | None = None) -> Diagnosis:
    """Asks every rule, ours and those that other distributions offer.

    Args:
        run: All that was seen.
        settings: Limits that the user has set.

    Returns:
        Verdict, coverage and the findings, the most fundamental first.
    """
    broken: list[NotRun] = []

    def on_broken(name: str, error: Exception) -> None:
        broken.append(NotRun(rule=name, why=f"cannot be loaded: {type(error).__name__}: {error}"))

    rules = entries(Rule, PACKAGE, GROUP, on_broken)  # type: ignore[type-abstract]
    found = judge(run, rules, settings)
    try:
        treated = aftermath(run, lambda part: judge(part, rules, settings))
    except Exception as error:  # noqa: BLE001 - the findings stand without what treatments made of them
        broken.append(NotRun(rule="aftermath", why=f"{type(error).__name__}: {error}"))
        treated = ()
    return replace(found, not_run=(*found.not_run, *broken), treated=treated)


def judge(run: RunView, rules: Sequence[type[Rule]], settings: Settings | None = None) -> Diagnosis:
    """Asks the given rules; a rule that breaks is listed, and the others go on.

    Args:
        run: All that was seen.
        rules: Which rules to ask.
        settings: Limits that the user has set.

    Returns:
        The diagnosis.

    Raises:
        UsageError: If the settings name a limit that a rule does not have.
    """
    found: list[Finding] = []
    not_run: list[NotRun] = []
    for cls in rules:
        name = getattr(cls, "slug", cls.__name__)
        try:
            rule = cls((settings.rules if settings else {}).get(cls.slug))
            found += list(rule.check(run))
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001 - other people's rules, and ours, must not hide the rest
            not_run.append(NotRun(rule=name, why=f"{type(error).__name__}: {error}"))
    findings = _by_cause(run, _without_last_resorts(found, rules), rules)
    try:
        findings = foretold(run, findings)
    except Exception as error:  # noqa: BLE001 - the findings stand without what will become of them
        not_run.append(NotRun(rule="prognosis", why=f"{type(error).__name__}: {error}"))
    seen = coverage(run)
    return Diagnosis(
        run=dict(run.facts),
        verdict=_verdict(findings, seen.steps > 0 and seen.observed > 0 and not _is_damaged(seen)),
        coverage=seen,
        overhead=run.overhead,
        findings=findings,
        not_run=tuple(not_run),
    )


def _without_last_resorts(found: Sequence[Finding], rules: Sequence[type[Rule]]) -> list[Finding]:
    """The findings, without those of a rule that speaks up only where nobody else does."""
    last = {cls.slug for cls in rules if cls.last_resort}
    known = any(f.rule not in last and f.severity is not Severity.INFO for f in found)
    return [f for f in found if not (known and f.rule in last)]


def _is_damaged(seen: Coverage) -> bool:
    """Whether parts of the record are gone: what they would have shown nobody knows."""
    return any(each.what == "run" and DAMAGED in each.why for each in seen.not_observed)


def _verdict(findings: Sequence[Finding], anything_seen: bool) -> Verdict:
    """Sick if something was found, not observed if nothing could have been.

    A loss that does not fall and whose level means nothing is not observed either: silence about a run
    that was seen not to learn is no health.

    Returns:
        The answer in one word.
    """
    sick = any(f.severity is not Severity.INFO and f.rule != "not-observed" for f in findings)
    if sick:
        return Verdict.SICK
    unexplained = (Cause.CAUSE_NOT_FOUND, Cause.NO_STEP, Cause.NO_DATA, Cause.TOO_SHORT)
    blind = any(f.cause in unexplained for f in findings)
    return Verdict.NOT_OBSERVED if blind or not anything_seen else Verdict.HEALTHY


def _by_cause(run: RunView, found: Sequence[Finding], rules: Sequence[type[Rule]]) -> tuple[Finding, ...]:
    """The findings in order, each consequence nested in the finding that explains it.

    Of several explanations the first in order counts. Two findings never explain
    each other: of two that could, the first in order is the root, and an explanation
    that would close a longer circle is passed over.

    Returns:
        The findings that nothing explains, each with its consequences inside.
    """
    wires = Wires(run)
    by_slug = {cls.slug: cls for cls in rules if hasattr(cls, "slug")}
    ordered = sorted(found, key=lambda f: _order(f, by_slug, wires))
    parent: dict[int, int] = {}
    for effect, finding in enumerate(ordered):
        for cause, explaining in enumerate(ordered):
            if effect == cause or effect in _line(cause, parent):
                continue
            mutual = cause > effect and _leads(finding, explaining, by_slug, wires)
            if not mutual and _leads(explaining, finding, by_slug, wires):
                parent[effect] = cause
                break
    return tuple(_nested(i, ordered, parent) for i in range(len(ordered)) if i not in parent)


def _leads(cause: Finding, effect: Finding, by_slug: dict[str, type[Rule]], wires: Wires) -> bool:
    """Whether any declared arrow leads from one finding to the other."""
    links = by_slug[cause.rule].consequences if cause.rule in by_slug else ()
    return any(_explains(link, cause, effect, wires) for link in links)


def _line(start: int, parent: dict[int, int]) -> set[int]:
    """A finding's explanations, from the nearest to the last."""
    line = set()
    while start in parent:
        start = parent[start]
        line.add(start)
    return line


def _nested(index: int, ordered: Sequence[Finding], parent: dict[int, int]) -> Finding:
    """A finding with the findings that it explains inside it."""
    effects = [e for e in range(len(ordered)) if parent.get(e) == index]
    inside = tuple(_nested(e, ordered, parent) for e in effects)
    return replace(ordered[index], explains=(*ordered[index].explains, *inside))


def _order(
    finding: Finding, by_slug: dict[str, type[Rule]], wires: Wires
) -> tuple[int, int, int, int, str, str, str, int, tuple[int, ...]]:
    """What findings are sorted by: harm, nearness to the root of things, time, data flow, then names.

    The unit indices come last and only tell findings apart that agree in all else.

    Returns:
        The sort key.
    """
    rank = by_slug[finding.rule].rank if finding.rule in by_slug else 1000
    since = finding.since_step if finding.since_step is not None else 2**62
    return (
        finding.severity.rank,
        rank,
        since,
        wires.position(finding.layer),
        finding.rule,
        str(finding.cause),
        finding.layer,
        finding.call,
        finding.units,
    )


def _explains(link: Consequence, cause: Finding, effect: Finding, wires: Wires) -> bool:
    """Whether one declared arrow leads from one finding to another.

    A finding never explains one that is worse: the harm must come from somewhere.

    Returns:
        True if rule, causes, share, time and place all fit.
    """
    if link.rule != effect.rule or cause.severity.rank > effect.severity.rank:
        return False
    if (link.when and cause.cause not in link.when) or (link.causes and effect.cause not in link.causes):
        return False
    if link.harmful and cause.severity is Severity.INFO:
        return False
    if cause.units_total and len(cause.units) < link.share * cause.units_total:
        return False
    return _in_time(link, cause, effect) and _in_place(link.place, cause, effect, wires)


def _in_time(link: Consequence, cause: Finding, effect: Finding) -> bool:
    """Whether the effect comes when it should; unknown steps are taken as fitting."""
    if cause.since_step is None or effect.since_step is None:
        return True
    later = effect.since_step - cause.since_step
    if link.delay >= 0 and later < link.delay:
        return False
    return link.within is None or later <= link.within


def _in_place(place: Place, cause: Finding, effect: Finding, wires: Wires) -> bool:
    """Whether the effect stands where it should."""
    if place is Place.ANYWHERE:
        return True
    if place is Place.UPSTREAM:
        return effect.layer == cause.layer or effect.layer in wires.before(cause.layer) | {""}
    return effect.layer in wires.after(cause.layer)
