"""What is learned by heart: a loss that falls from one pass over the data to the next, and within none.

What helps on other samples shows before they come again: the loss falls within a pass as it falls from
pass to pass. What is learned of single samples shows only when they come again, so the loss goes down in
steps as long as a pass; within one it stays, or rises as older samples are forgotten. The length of a
pass is not recorded. Every length is tried: at a wrong one the steps of a stair average out to a slope, so
that only a true stair, at its own length, shows no fall within.

Letters: ``T`` steps, ``E`` steps of a pass, ``K`` passes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defib.core.evidence import Evidence
from defib.core.series import Series

Array = NDArray[np.float64]

_MOST_STEPS = 20_000
_SHORTEST_PASS = 4
_FEWEST_PASSES = 6


@dataclass(frozen=True, kw_only=True)
class Stair:
    """The clearest stair of a loss.

    Attributes:
        steps: Steps of a pass.
        passes: Passes seen, the first left out.
        fall: Fall of the loss from pass to pass, on average.
        within: Fall within a pass, on average; negative where it rises.
        error: Standard error of ``within``.
    """

    steps: int
    passes: int
    fall: float
    within: float
    error: float

    @property
    def p(self) -> float:
        """How often a loss looks as flat that falls half as much within a pass as between them (Student)."""
        from scipy.special import stdtr

        if not self.error > 0:
            return 1.0
        return float(stdtr(self.passes - 1, (self.within - self.fall / 2) / self.error))

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The numbers behind it."""
        return (
            Evidence(name="steps of a pass over the data, as the loss shows", value=self.steps, unit="steps"),
            Evidence(name="passes compared", value=self.passes, unit="passes"),
            Evidence(name="fall of the loss from pass to pass", value=self.fall, unit="loss"),
            Evidence(name="fall of the loss within a pass", value=self.within, unit="loss"),
            Evidence(name="its standard error", value=self.error, unit="loss"),
        )


def by_heart(loss: Series, chance: float) -> Stair | None:
    """The clearest stair of a loss, if chance does not explain it.

    Args:
        loss: At each step.
        chance: p-value over all lengths of a pass that are tried (Bonferroni).

    Returns:
        It; None if there is none, or the run is too short for one.
    """
    values = np.asarray(loss.values, dtype=np.float64)[:_MOST_STEPS]
    if not np.isfinite(values).all():
        return None
    lengths = list(_lengths(len(values)))
    stairs = [s for steps in lengths if (s := _cut(values, steps)).fall > 0]
    best = min(stairs, key=lambda s: s.p, default=None)
    return best if best is not None and best.p * len(lengths) < chance else None


def _lengths(count: int) -> Iterator[int]:
    """Lengths of a pass, as close as a stair over T steps needs them: a quarter of a pass off at its end."""
    steps = _SHORTEST_PASS
    while steps * (_FEWEST_PASSES + 1) <= count:
        yield steps
        steps += max(1, steps * steps // (4 * count))


def _cut(loss: Array, steps: int) -> Stair:
    """The loss cut into passes of that many steps; the first pass is left out: it fits the outputs' scale."""
    passes = len(loss) // steps - 1
    table = loss[steps : (passes + 1) * steps].reshape(passes, steps)
    place = np.arange(steps) - (steps - 1) / 2
    means = table.mean(axis=1)
    within = -(table * place).sum(axis=1) / (place**2).sum() * steps
    return Stair(
        steps=steps,
        passes=passes,
        fall=float(means[0] - means[-1]) / (passes - 1),
        within=float(within.mean()),
        error=float(within.std(ddof=1)) / passes**0.5,
    )
