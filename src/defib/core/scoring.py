"""How good a rule was where the truth was known: plain data, made by the lab, shown by pages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share with its interval.

    Attributes:
        hits: How many.
        trials: Of how many.
        low: Lower end of the 95 % interval of Clopper and Pearson.
        high: Upper end.
    """

    hits: int
    trials: int
    low: float
    high: float

    def __str__(self) -> str:
        if not self.trials:
            return "no runs"
        share = self.hits / self.trials
        return f"{self.hits} of {self.trials} = {share:.1%} [{self.low:.1%}, {self.high:.1%}]"


def rate(hits: int, trials: int) -> Rate:
    """A share with its exact interval."""
    from defib.core.inference import clopper_pearson  # numpy and scipy, which reading needs not

    bound = clopper_pearson(hits, trials)
    return Rate(hits=hits, trials=trials, low=bound.low, high=bound.high)


@dataclass(frozen=True, kw_only=True)
class RuleScore:
    """One rule on the proving ground.

    Attributes:
        rule: Its slug.
        planted: Sick runs whose cause is its business and whose plant took.
        sensitivity: Of them, those in which it is the first finding; for plants that do no harm, those
            in which it has a finding at all.
        accepted: Those in which the first finding is its own or one that names the same thing.
        specificity: Healthy runs without a warning or worse of it.
        quiet: Twins of its own harmless plants, without the planted condition, without a word of it.
        misnamed: Sick runs of other causes whose first finding is its own.
    """

    rule: str
    planted: int
    sensitivity: Rate
    accepted: Rate
    specificity: Rate
    quiet: Rate
    misnamed: Rate


def rule_scores(told: Mapping[str, Any]) -> dict[str, RuleScore]:
    """The scores of rules in a scoreboard that was written as JSON, by slug."""
    found = {}
    for score in told["rules"]:
        parts: dict[str, Any] = {k: Rate(**v) if isinstance(v, dict) else v for k, v in score.items()}
        found[score["rule"]] = RuleScore(**parts)
    return found
