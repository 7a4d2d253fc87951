"""Set the eps of an adaptive optimiser.

What it does:
    The ``eps`` of every group becomes the given number.

When it helps:
    In float16 the default of 1e-8 is 0, and 0 / 0 makes the weights NaN on the first step. Or gradients
    are so small that eps is what they are divided by, and the optimiser no longer scales them up.

When it does not:
    The optimiser keeps its state in float32 and gradients are of usual size: then eps does nothing.

Dose:
    ``eps``: 1e-4 where half precision lost it (above float16's smallest normal number, 6.1e-5); else a
    thousandth of the smallest usual gradient norm of a tensor.

Safety:
    Weights and moments stay. Refused for optimisers without eps. A network whose weights are NaN
    already needs `roll-back` first.

References:
    Kingma and Ba 2015 (arXiv 1412.6980); science.md S0-40 and truth 19.
"""

from collections.abc import Sequence
from random import Random
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.therapy.steps import adaptive, positive, rounded, stepping
from defib.therapy.surgery import Surgery
from defib.therapy.treatment import Case, Indication, Treatment

HALF = 1e-4
"""Survives in float16, whose smallest normal number is 6.1e-5."""


class Epsilon(Treatment):
    """Sets eps."""

    slug = "epsilon"
    title = "Set the eps of an adaptive optimiser"
    safety = Safety.SETTINGS
    indications = (
        Indication(
            rule="update-lost",
            causes=(Cause.EPSILON_LOST,),
            strength=0.9,
            why="with an eps that is a number in half precision nothing is divided by 0",
        ),
        Indication(
            rule="update-lost",
            causes=(Cause.EPSILON_THROTTLE,),
            strength=0.85,
            why="below the gradients' size eps no longer holds the steps back",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="larger",
            build=adaptive,
            dose={"eps": 1e-4},
            holds=lambda s: s.optimizers[0].param_groups[0]["eps"] == 1e-4,
        ),
        Case(name="an optimiser without eps", build=stepping, dose={"eps": 1e-4}, refused=True),
        Case(name="0", build=adaptive, dose={"eps": 0}, refused=True),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        if finding.cause is Cause.EPSILON_LOST:
            return {"eps": HALF}
        if run.norms is None:
            return None
        sizes = run.norms.gradient[np.isfinite(run.norms.gradient) & (run.norms.gradient > 0)]
        if not len(sizes):
            return None
        return {"eps": rounded(max(1e-18, 1e-3 * float(np.quantile(sizes, 0.05))))}

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del layers
        return {"eps": draw.choice((1e-6, 1e-4))}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        eps = positive(dose, "eps", self.slug)
        owners = [
            (o, i) for o in surgery.state.optimizers for i, g in enumerate(o.param_groups) if "eps" in g
        ]
        if not owners:
            raise Refused("epsilon: no optimiser here has an eps")
        for optimizer, index in owners:
            surgery.setting(optimizer, index, "eps", eps)
