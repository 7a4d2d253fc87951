"""The numbers that a prognosis rests on.

Letters: ``U`` units.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defib.core.evidence import Evidence
from defib.core.remains import Remains
from defib.diagnosis.prognosis.arithmetic import Exact
from defib.diagnosis.prognosis.course import Course, Moved
from defib.diagnosis.prognosis.samples import Samples
from defib.diagnosis.prognosis.upstream import Reach, reach


@dataclass(frozen=True, kw_only=True)
class Grounds:
    """Numbers for each unit.

    Attributes:
        gap: How far the pre-activation is below the threshold on the nearest sample, shape (U,).
        coast: How far the stored momentum alone will carry it on the sample on which that is most,
            shape (U,); None if the optimiser's coasting is not known in closed form.
        reach: How far the features are from firing it; None for a first layer.
        decays: "name: learning rate x decay" for each part.
    """

    gap: Exact
    coast: Exact | None
    reach: Reach | None
    decays: tuple[tuple[str, float], ...]

    def evidence(self, units: NDArray[np.bool_], course: Course) -> tuple[Evidence, ...]:
        """The numbers of a group of units.

        Args:
            units: Which, shape (U,).
            course: What became of them.

        Returns:
            Medians over the units, and extremes where they matter.
        """
        found = [
            Evidence(name="distance from firing, median over units", value=_median(self.gap[units])),
        ]
        if self.coast is not None:
            travel = Evidence(
                name="movement left in the stored momentum, largest over units",
                value=_most(self.coast[units]),
            )
            found.append(travel)
        found += [
            Evidence(name=f"learning rate x weight decay of the {name}", value=product)
            for name, product in self.decays
        ]
        ahead = course.first[units]
        if (ahead > 0).all():
            found.append(
                Evidence(name="steps until it fires, median over units", value=_median(ahead), unit="steps")
            )
        if self.reach is not None:
            found += self.reach.evidence(units)
        return tuple(found)


def grounds(remains: Remains, samples: Samples, moved: Sequence[Moved]) -> Grounds:
    """Collects the numbers.

    Args:
        remains: What is known about the units.
        samples: The kept samples.
        moved: The parts, where they stand.

    Returns:
        The numbers.
    """
    values = [part.body.values for part in moved]
    deep = not remains.first_layer
    return Grounds(
        gap=-samples.highest(values),
        coast=_coast(samples, moved),
        reach=reach(samples, values, remains.drift) if deep else None,
        decays=tuple((part.part.name, part.lr(0) * part.body.decay) for part in moved if part.body.decay),
    )


def _coast(samples: Samples, moved: Sequence[Moved]) -> Exact | None:
    """The coasting meter: the largest change of any sample's pre-activation, with its sign, shape (U,)."""
    travels = []
    for part in moved:
        travel = part.family.coast(part.body, part.lr(0))
        if travel is None and part.family.momenta:
            return None
        travels.append(np.zeros(part.body.values.shape) if travel is None else travel)
    return samples.highest(travels) + samples.threshold


def _median(values: NDArray[np.float64] | NDArray[np.int64]) -> float:
    """Median, to four digits."""
    return float(f"{np.median(values):.4g}")


def _most(values: Exact) -> float:
    """Maximum, to four digits."""
    return float(f"{values.max():.4g}")
