"""Raise biases so that dead units fire again.

What it does:
    The bias of each unit is raised by what it lacks on the samples nearest to firing. Weights stay: the
    unit comes back as what it was. The optimiser forgets the unit's own slices, so that the next
    update is not the large one that a long silence leaves behind.

When it helps:
    Units are dead by a small margin: what they had learnt is still in their weights.

When it does not:
    The next layer has long stopped expecting them, or what killed them goes on. For data far from
    zero see `scale-inputs`: of 288 dead units of one run centring brought all back, a bias of 0 only
    24 (science.md, truth 8).

Dose:
    ``layer``: the linear layer, convolution or batch normalisation right before the activation.
    ``units``: their numbers. ``by``: how much each bias is raised, or one number for all. Prescribed
    so that a unit fires on 5 % of the samples that the record kept; from an autopsy or from the
    largest input that was read where there are none.

Safety:
    The answers change on the samples on which the units fire now.

References:
    science.md 3.6 b.
"""

from typing import ClassVar

import torch
from torch import nn

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.therapy.redraw import Dense
from defib.therapy.surgery import Surgery
from defib.therapy.treatment import Case, Indication
from defib.therapy.unit_cases import bias, half_dead, image_net
from defib.therapy.unit_evidence import rises
from defib.therapy.units import UnitTreatment, numbers, refresh

SHARE = 0.05
"""Share of the samples on which a unit is to fire: that of a sparse unit, far from a linear one."""

_BIASED = ("Linear", "Conv", "BatchNorm")


class NudgeBias(UnitTreatment):
    """Raises biases until units fire."""

    slug = "nudge-bias"
    title = "Raise biases so that dead units fire again"
    safety = Safety.CHANGES
    indications = (
        Indication(
            rule="dead-unit",
            causes=(Cause.BORN_DEAD, Cause.DIED_AT_STEP),
            strength=0.5,
            why="on its best samples each unit fires again, as what it was",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="two units, each by its own",
            build=half_dead,
            dose={"layer": "0", "units": (1, 4), "by": (20.0, 19.0)},
            holds=lambda s: abs(float(bias(s, "0")[1])) < 1 and float(bias(s, "0")[4]) < -0.5,
        ),
        Case(
            name="a batch normalisation's offset",
            build=image_net,
            dose={"layer": "norm", "units": (2,), "by": 20.0},
            holds=lambda s: abs(float(bias(s, "norm")[2])) < 1,
        ),
        Case(name="without an amount", build=half_dead, dose={"layer": "0", "units": (1,)}, refused=True),
        Case(name="no bias", build=half_dead, dose={"layer": "1", "units": (1,), "by": 1.0}, refused=True),
        Case(
            name="no such unit", build=half_dead, dose={"layer": "0", "units": (6,), "by": 1.0}, refused=True
        ),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        kind = next((layer.kind for layer in run.layers if layer.path == finding.layer), "")
        if not finding.units or not kind.startswith(_BIASED):
            return None
        by = rises(run, finding.layer, finding.modules, finding.units, SHARE)
        return {"layer": finding.layer, "units": finding.units, "by": by} if by else None

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        path = str(dose.get("layer", ""))
        module = surgery.state.module(path)
        parameter = getattr(module, "bias", None)
        plain = isinstance(module, (Dense, nn.modules.batchnorm._BatchNorm))
        if not path or not plain or not isinstance(parameter, nn.Parameter):
            raise Refused(f"nudge-bias: {path or 'the model'} has no bias to raise")
        units, by = numbers(dose, "units"), numbers(dose, "by")
        if not units or any(u != int(u) or not 0 <= u < len(parameter) for u in units):
            raise Refused(
                f"nudge-bias: {path} has units 0 to {len(parameter) - 1}, not {list(units) or 'none'}"
            )
        if len(by) not in {1, len(units)}:
            raise Refused("nudge-bias: by takes one number, or one for each unit")
        rows = [int(u) for u in units]
        raised = parameter.detach()[rows].cpu() + torch.tensor(by, dtype=parameter.dtype)
        surgery.write(f"{path}.bias of {len(rows)} units", parameter, raised, (torch.tensor(rows),))
        refresh(surgery, path, module, rows)
