"""Turn dead units over: on where they were off.

What it does:
    Weights and bias that come into a unit change their sign, and what the next layer makes of it is
    set to 0. A unit that was off for every sample is on for every sample then, and moves from there.

When it helps:
    Units are dead, and neither data nor activation can be touched: nothing is drawn at random, and a
    gradient is certain.

When it does not:
    The unit is linear on all samples until its bias has come down: it says nothing new at first.

Dose:
    ``layer``: path of a linear layer or convolution. ``units``: their numbers. ``into``: the layers that
    read the units, where defib cannot find them by itself.

Safety:
    The outputs are bit-equal where the units were off. Behind a normalisation of single units its
    scale and offset are turned instead. The optimiser forgets those slices only.

References:
    Rister and Rubin 2020 (arXiv 2006.13486); science.md 3.6 a.
"""

from typing import ClassVar

import torch

from defib.core.cause import Cause
from defib.core.prescription import Dose
from defib.therapy.surgery import Surgery
from defib.therapy.treatment import Case, Indication
from defib.therapy.unit_cases import bias, half_dead, image_net, skipping, the_input, weight
from defib.therapy.units import Place, UnitTreatment, Ward, renew, silence, ward


class FlipSign(UnitTreatment):
    """Changes the sign of what comes into units."""

    slug = "flip-sign"
    title = "Turn dead units over: on where they were off"
    indications = (
        Indication(
            rule="dead-unit",
            causes=(Cause.BORN_DEAD, Cause.DIED_AT_STEP),
            strength=0.45,
            why="a unit that is off everywhere is on everywhere once its sign is changed",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="two dead units",
            build=half_dead,
            dose={"layer": "0", "units": (1, 4)},
            holds=lambda s: float(bias(s, "0")[1]) > 19 and not weight(s, "2")[:, [1, 4]].any(),
            preserves=True,
            inputs=the_input,
        ),
        Case(
            name="behind a batch normalisation",
            build=image_net,
            dose={"layer": "conv", "units": (2,)},
            holds=lambda s: float(bias(s, "norm")[2]) > 19,
            preserves=True,
            inputs=lambda: (torch.linspace(-1, 1, 64).reshape(2, 2, 4, 4),),
        ),
        Case(name="a skip connection", build=skipping, dose={"layer": "a", "units": (0,)}, refused=True),
        Case(name="no units", build=half_dead, dose={"layer": "0"}, refused=True),
    )

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        found = ward(surgery, dose, self.slug, readers=True)
        for name, parameter, where in _last_scale(found, surgery):
            surgery.write(f"{name} of {len(found.units)} units", parameter, -parameter.detach()[where], where)
        silence(surgery, found)
        renew(surgery, found)


def _last_scale(found: Ward, surgery: Surgery) -> list[Place]:
    """What sets the sign of the activation's input: the last normalisation's own numbers, or the layer's."""
    places = list(found.incoming(surgery))
    norms = found.outlet.norms if found.outlet is not None else []
    last = [p for p in places if norms and p[0].rpartition(".")[0] == norms[-1]]
    return last or [p for p in places if p[0].rpartition(".")[0] == found.path]
