"""Draw dead units anew, without changing what the network answers.

What it does:
    The weights that come into a unit are drawn anew with the gain of its activation, its bias is set
    so that its mean input is 0 (or to 0 where the features are not known), and what the next layer
    makes of it is set to 0: nobody hears the new unit until training lets it be heard. The optimiser
    forgets those slices and no others: direction 0, size as usual in the rest of the layer.

When it helps:
    Some units of a layer are dead and the others work: capacity comes back at no cost.

When it does not:
    What killed them is still there (a rate that is too high, data far from zero): they die again.
    The units were not dead: then what they said is lost, and the answers change.

Dose:
    ``layer``: path of a linear layer or convolution. ``units``: their numbers. ``mean``: mean of each
    input feature. ``into``: the layers that read the units, where defib cannot find them by following
    the model's code.

Safety:
    The outputs are bit-equal where the units were off (rounding of a sum with one zero less aside on
    other hardware). Refused where the units' readers are unknown, shared by other units, or behind a
    normalisation that makes something of a unit that is off. From Adam's kind the first update of
    what was drawn is at most one learning rate as long as its gradient is no more than usual there.

References:
    Sokar et al. 2023, The dormant neuron phenomenon (arXiv 2302.12902); Dohare et al. 2024, Loss of
    plasticity in deep continual learning (Nature 632). science.md 3.3, 3.6 c; truth 8 on the mean.
"""

from typing import ClassVar

import torch
from torch import nn

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose
from defib.core.run import RunView
from defib.nn.initialisers import gain_of
from defib.therapy.surgery import Surgery
from defib.therapy.treatment import Case, Indication
from defib.therapy.unit_cases import (
    bias,
    half_dead,
    image_net,
    normed_behind,
    skipping,
    the_input,
    weight,
)
from defib.therapy.unit_evidence import features_mean
from defib.therapy.units import UnitTreatment, Ward, numbers, renew, silence, ward


class RecycleDeadUnits(UnitTreatment):
    """Draws units anew and keeps the function."""

    slug = "recycle-dead-units"
    title = "Draw dead units anew without changing the answers"
    indications = (
        Indication(
            rule="dead-unit",
            causes=(Cause.BORN_DEAD,),
            strength=0.74,
            why="units that never fired get weights that do, and the answers stay as they are",
        ),
        Indication(
            rule="dead-unit",
            causes=(Cause.DIED_AT_STEP, Cause.DEAD_INPUT),
            strength=0.6,
            why="the units come back, and the answers stay as they are",
        ),
        Indication(rule="dormant-unit", strength=0.4, why="what says next to nothing may be drawn anew"),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="two dead units of six",
            build=half_dead,
            dose={"layer": "0", "units": (1, 4)},
            holds=lambda s: bool(weight(s, "0")[1].any()) and not weight(s, "2")[:, [1, 4]].any(),
            preserves=True,
            inputs=the_input,
        ),
        Case(
            name="the features' mean is taken out",
            build=half_dead,
            dose={"layer": "0", "units": (1,), "mean": (0.5, 0.5, 0.5, 0.5)},
            holds=lambda s: torch.allclose(bias(s, "0")[1], -0.5 * weight(s, "0")[1].sum()),
            preserves=True,
            inputs=the_input,
        ),
        Case(
            name="a channel with its normalisation, read by a flattened layer",
            build=image_net,
            dose={"layer": "conv", "units": (2,)},
            preserves=True,
            inputs=lambda: (torch.linspace(-1, 1, 64).reshape(2, 2, 4, 4),),
            holds=lambda s: not weight(s, "head")[:, 32:48].any(),
        ),
        Case(name="a skip connection", build=skipping, dose={"layer": "a", "units": (0,)}, refused=True),
        Case(
            name="a normalisation behind the activation",
            build=normed_behind,
            dose={"layer": "0", "units": (0,)},
            refused=True,
        ),
        Case(name="the last layer", build=half_dead, dose={"layer": "4", "units": (0,)}, refused=True),
        Case(name="no such unit", build=half_dead, dose={"layer": "0", "units": (9,)}, refused=True),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        found = super().dose(finding, run)
        mean = features_mean(run, str(found["layer"])) if found is not None else ()
        return {**found, "mean": mean} if found is not None and mean else found

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        found = ward(surgery, dose, self.slug, readers=True)
        _redraw(surgery, found, numbers(dose, "mean"))
        silence(surgery, found)
        renew(surgery, found)


def _redraw(surgery: Surgery, found: Ward, mean: tuple[float, ...]) -> None:
    """New weights, the bias that goes with them, and plain normalisations."""
    layer, state = found.layer, surgery.state
    fan_in = layer.weight[0].numel()
    if mean and len(mean) not in {fan_in, 1}:
        raise Refused(f"{found.path} has {fan_in} inputs to a unit: mean needs one number for each")
    gain = gain_of(found.outlet.activation) if found.outlet is not None else 1.0
    shape = (len(found.units), *layer.weight.shape[1:])
    drawn = torch.randn(shape, generator=surgery.generator) * (gain / fan_in**0.5)
    surgery.write(f"{found.path}.weight of {len(found.units)} units", layer.weight, drawn, found.index)
    if layer.bias is not None:
        shift = drawn.flatten(1) @ torch.tensor(mean).expand(fan_in) if mean else torch.zeros(())
        surgery.write(f"{found.path}.bias of {len(found.units)} units", layer.bias, -shift, found.index)
    for path in found.outlet.norms if found.outlet is not None else ():
        norm: nn.Module = state.module(path)
        plain = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
        for name, value in plain.items():
            tensor = getattr(norm, name, None)
            if isinstance(tensor, torch.Tensor):
                surgery.write(f"{path}.{name}", tensor, torch.tensor(value), found.index)
