"""Whether the inputs tell the targets, from the data alone: the batches' distance correlations together.

Each batch of n samples gives a bias-corrected distance correlation r of its inputs and its targets
(``capture.relation``). Where the two are independent r is 0 on average with a variance of 1 / v,
v = n (n - 3) / 2 (Székely and Rizzo 2013), so the mean weighted by v has the variance 1 / sum v, and is
normal. A batch that comes again says nothing new and counts once.

The test sees what brings samples of like targets near each other. It is blind for what only several
features together tell (a parity, a product): "no relation" means none of that kind, and how strong one
could still be.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defib.core.evidence import Evidence
from defib.core.run import RunView
from defib.diagnosis.rule import Limit

Array = NDArray[np.float64]

FEWEST = 3
"""Fewer different batches say nothing of how they differ."""
_UNSURE = 0.05
"""p-value below which chance is no longer the plain explanation of what inputs tell of targets."""
NOTHING = Limit(
    name="relation",
    default=0.05,
    unit="1",
    meaning="distance correlation of inputs and targets that must be excluded (95 %) for the one to tell "
    "nothing of the other",
    reason="what networks of ordinary size find within some hundred steps has shown half as much again and "
    "more: a shell in four dimensions 0.08, one of twenty features 0.15, digits 0.5",
)
_CUTS = ("relation_second_first", "relation_last_first")
_SAME = ("input_mean", "input_std", "label_mean", "target_mean")


@dataclass(frozen=True, kw_only=True)
class Relation:
    """How much the inputs tell of the targets.

    Attributes:
        strength: Mean bias-corrected distance correlation; 0 where they tell nothing, 1 at most.
        error: Its standard error.
        z: It over the error that it would have if they told nothing.
        batches: Different batches that were compared.
        samples: Samples of them together.
    """

    strength: float
    error: float
    z: float
    batches: int
    samples: int

    @property
    def p(self) -> float:
        """How often chance alone gives as much where inputs tell nothing of the targets."""
        from scipy.special import ndtr

        return float(ndtr(-self.z))

    @property
    def most(self) -> float:
        """What the strength is below (95 %, one side)."""
        return max(self.strength, 0.0) + 1.645 * self.error

    @property
    def likely(self) -> bool:
        """Whether chance alone is no plain explanation of what the inputs tell."""
        return self.p <= _UNSURE

    def nothing(self, limit: float) -> bool:
        """Whether the inputs were seen to tell nothing of the targets: ``limit`` and more is excluded."""
        return not self.likely and self.most < limit

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The numbers behind it."""
        return (
            Evidence(name="distance correlation of inputs and targets", value=self.strength),
            Evidence(name="the same, below (95 %)", value=self.most),
            Evidence(name="p-value if inputs told nothing of the targets", value=self.p),
            Evidence(name="samples compared", value=self.samples, unit="samples"),
        )


def relation(run: RunView, column: str = "relation") -> Relation | None:
    """What the batches that were read say together; None if they say too little.

    Args:
        run: The run; with several optimisers no target is the whole model's.
        column: Which cut of the inputs.

    Returns:
        The mean over its different batches.
    """
    objective = run.objective
    if objective is None or len(run.optimizers) != 1 or column not in objective.columns:
        return None
    known = np.isfinite(objective.columns[column]) & np.isfinite(objective.columns["relation_samples"])
    names = [np.nan_to_num(objective.columns[name][known]) for name in _SAME]
    if not known.any():
        return None
    _, different = np.unique(np.stack(names), axis=1, return_index=True)
    if len(different) < FEWEST:
        return None
    values = objective.columns[column][known][different]
    samples = objective.columns["relation_samples"][known][different]
    return _together(values, samples)


def _together(values: Array, samples: Array) -> Relation:
    """The weighted mean of correlations of different batches."""
    weights = samples * (samples - 3) / 2
    chance = float(weights.sum()) ** -0.5
    mean = float(np.average(values, weights=weights))
    spread = float(np.sqrt(np.average((values - mean) ** 2, weights=weights) / (len(values) - 1)))
    return Relation(
        strength=mean,
        error=max(chance, spread),
        z=mean / chance,
        batches=len(values),
        samples=int(samples.sum()),
    )


def undone(run: RunView) -> Relation | None:
    """The strongest relation that inputs have once they are cut into samples along another axis."""
    cuts = [found for column in _CUTS if (found := relation(run, column)) is not None]
    return max(cuts, key=lambda found: found.z, default=None)
