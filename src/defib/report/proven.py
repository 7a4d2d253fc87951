"""How good a rule was on the proving ground: lines for its page, from the stored scoreboard.

The scoreboard is made by ``defib lab scoreboard`` and kept beside this file, as
``proving_ground.json``.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from defib.core.scoring import RuleScore, rule_scores

NAME = "proving_ground.json"


@cache
def stored() -> Mapping[str, Any]:
    """The scoreboard that this version of defib was released with; empty if there is none."""
    place = files("defib.report").joinpath(NAME)
    found: Mapping[str, Any] = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
    return found


def sentences(slug: str, board: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """What the proving ground says of a rule, a sentence each.

    Args:
        slug: The rule.
        board: A scoreboard as JSON; None for the stored one.

    Returns:
        Empty if there is no scoreboard; one that says so if the rule came after it.
    """
    told = stored() if board is None else board
    if not told:
        return ()
    made = told["made"]
    score = rule_scores(told).get(slug)
    if score is None:
        return (
            f"It is younger than the last measurement ({made['command']}, {made['date']}): nothing is known "
            "of its sensitivity and specificity there.",
        )
    head = (
        f"Measured on {told['sick']} trainings with a planted cause and {told['healthy']} healthy ones, "
        f"drawn at random ({made['command']}, {made['date']}); 95 % intervals."
    )
    return (head, *_planted(score, told), *_healthy(score))


def _planted(score: RuleScore, told: Mapping[str, Any]) -> list[str]:
    """Its sick runs, and each pathology of its own."""
    if not score.planted:
        return ["Its causes were not planted, so that nothing is known of its sensitivity."]
    said = [f"Sensitivity: named in {score.sensitivity} of the runs planted for it."]
    if score.accepted.hits > score.sensitivity.hits:
        said.append(
            f"Named by it, or by a rule that sees the same thing from another side: {score.accepted}."
        )
    for own in (p for p in told["pathologies"] if p["rule"] == score.rule and p["counted"]):
        hits, trials = own["named"]["hits"], own["named"]["trials"]
        most = next(iter(own["others"]), "")
        missed = f"; else mostly {most}" if most and most != "nothing" else "; else nothing" if most else ""
        said.append(f"{own['title'][0].upper()}{own['title'][1:]}: {hits} of {trials}{missed}.")
    return said


def _healthy(score: RuleScore) -> list[str]:
    """Its false alarms."""
    said = [f"Specificity: no warning or worse in {score.specificity} of the healthy runs."]
    if score.quiet.trials:
        said.append(f"Without the condition that it reports, it says nothing in {score.quiet}.")
    said.append(f"It is the first finding, wrongly, in {score.misnamed} of the runs with another cause.")
    return said
