"""How much treatments helped where they were given before: what prescriptions are ranked by.

``experience.json`` beside this file is written by ``bench/strengths.py``, over the programs of
``bench/programs`` and no others. Where a treatment was given for findings of the same rule
and cause, its strength is the mean share of the gap to the repaired program that it closed, with the
strength that its author judged counted as :data:`WEIGHT` further programs; where only
the rule is the same, those programs count. Without experience the judgement stands.
"""

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from defib.core.prescription import Prescription

WEIGHT = 2.0
"""Programs that a judged strength counts for: few, because what was measured should soon decide."""

EXPERIENCE = Path(__file__).with_name("experience.json")


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of a treatment for findings of one rule and cause.

    Attributes:
        rule: Slug of the rule.
        cause: The cause.
        treatment: Slug of the treatment.
        tried: On how many programs it could be given.
        closed: Sum of the shares of the gap that it closed, each 0 to 1.
    """

    rule: str
    cause: str
    treatment: str
    tried: int
    closed: float


@cache
def experience() -> tuple[Tried, ...]:
    """All of it; none where the file is not there."""
    if not EXPERIENCE.exists():
        return ()
    return tuple(Tried(**each) for each in json.loads(EXPERIENCE.read_text(encoding="utf-8"))["entries"])


def seasoned(found: Prescription, known: tuple[Tried, ...]) -> Prescription:
    """A prescription with the strength that experience gives it.

    Args:
        found: As its treatment judges it.
        known: What came of treatments before.

    Returns:
        The same with another strength; a patch that was never given to a live network keeps its own.
    """
    alike = [t for t in known if (t.rule, t.treatment) == (found.rule, found.treatment)]
    same = [t for t in alike if t.cause == str(found.cause or "")] or alike
    tried = sum(t.tried for t in same)
    if not tried or found.patch:
        return found
    strength = (WEIGHT * found.strength + sum(t.closed for t in same)) / (WEIGHT + tried)
    return replace(found, strength=round(strength, 2))
