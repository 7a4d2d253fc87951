"""Make units that compute the same part company.

What it does:
    Noise that sums to nothing is added to what the next layer makes of the clones: together they say
    what they said before, and each gets a gradient of its own from now on.

When it helps:
    Several units of a layer compute the same and get the same gradient, so that they would never part:
    a symmetric first draw, or a layer that was widened by copying.

When it does not:
    All weights of the layer are 0: its units say nothing, and there is nothing to share out (`he-init`).

Dose:
    ``layer``: path of a linear layer or convolution. ``units``: those to look at; all without it.
    ``noise``: in standard deviations of the next layer's weights (0.1). ``into``: as for
    `recycle-dead-units`.

Safety:
    The outputs stay within rounding. Clones are looked for again in the live network, equal to 1 in
    10,000, and up to a factor where the activation is a ReLU or leaky ReLU. Moments stay.

References:
    Chen, Goodfellow and Shlens 2016, Net2Net (arXiv 1511.05641); science.md 1.F, S2-39.
"""

from typing import ClassVar

import torch

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose
from defib.core.run import RunView
from defib.therapy.normalise import units_of
from defib.therapy.redraw import dense_layers
from defib.therapy.surgery import Surgery
from defib.therapy.treatment import Case, Indication
from defib.therapy.unit_cases import cloned, half_dead, the_input, weight
from defib.therapy.units import UnitTreatment, Ward, chosen, ward

TOLERANCE = 1e-4
"""Relative difference of rows that are called equal; the rule's own limit."""

_HOMOGENEOUS = {"relu", "leaky_relu", "prelu"}
"""Activations with f(c z) = c f(z) for c > 0."""


class SplitClones(UnitTreatment):
    """Adds noise of sum 0 behind clones."""

    slug = "split-clones"
    title = "Make units that compute the same part company"
    indications = (
        Indication(rule="cloned-unit", strength=0.9, why="each clone gets a gradient of its own"),
        Indication(
            rule="initialisation",
            causes=(Cause.CLONED_UNITS,),
            strength=0.6,
            why="units that began alike get gradients of their own",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="three clones, one twice as large",
            build=cloned,
            dose={"layer": "0", "units": (0, 3, 5)},
            preserves=True,
            tolerance=1e-6,
            inputs=the_input,
            holds=lambda s: float((weight(s, "2")[:, 0] - weight(s, "2")[:, 3]).abs().min()) > 0,
        ),
        Case(
            name="clones are found among all units",
            build=cloned,
            dose={"layer": "0", "noise": 1.0},
            preserves=True,
            tolerance=1e-5,
            inputs=the_input,
        ),
        Case(name="no clones", build=half_dead, dose={"layer": "0"}, refused=True),
        Case(name="noise of nothing", build=cloned, dose={"layer": "0", "noise": 0}, refused=True),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        plain = next((layer for layer in run.layers if layer.path == finding.layer), None)
        whole = plain is not None and plain.kind.startswith(("Linear", "Conv"))
        return chosen(finding, run) or ({"layer": finding.layer} if whole else None)

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        noise = dose.get("noise", 0.1)
        if not isinstance(noise, (int, float)) or not 0 < noise < float("inf"):
            raise Refused(f"split-clones needs noise above 0, not {noise!r}")
        path = str(dose.get("layer", ""))
        if "units" not in dose and path:
            dose = {**dose, "units": tuple(range(units_of(dense_layers(surgery.state, path)[path])))}
        found = ward(surgery, dose, self.slug, readers=True)
        groups = _groups(surgery, found)
        if not groups:
            raise Refused(f"split-clones: no two of these units of {found.path} compute the same")
        for group in groups:
            _share_out(surgery, found, group, float(noise))


def _groups(surgery: Surgery, found: Ward) -> list[dict[int, float]]:
    """Clones with the factor between them and the first of their group."""
    parts = [p.detach()[where].flatten(1) if p.ndim > 1 else p.detach()[where][:, None]
             for _, p, where in found.incoming(surgery)]  # fmt: skip
    rows = torch.cat([part.double().cpu() for part in parts], dim=1)
    outlet = found.outlet
    scaled = outlet is not None and not outlet.norms and outlet.activation in _HOMOGENEOUS
    sizes = rows.norm(dim=1)
    groups: list[dict[int, float]] = []
    for i, unit in enumerate(found.units):
        if not sizes[i] > 0:
            continue
        for group in groups:
            first = found.units.index(next(iter(group)))
            factor = float(sizes[i] / sizes[first]) if scaled else 1.0
            if (rows[i] - factor * rows[first]).norm() <= TOLERANCE * sizes[i]:
                group[unit] = factor
                break
        else:
            groups.append({unit: 1.0})
    return [group for group in groups if len(group) > 1]


def _share_out(surgery: Surgery, found: Ward, group: dict[int, float], noise: float) -> None:
    """Adds n_u to the columns of unit u, with sum over u of factor_u n_u = 0."""
    factors = torch.tensor(list(group.values()), dtype=torch.float64)
    for reader in found.outlet.readers.values() if found.outlet is not None else ():
        weight = reader.layer.weight.detach()
        columns = [weight[reader.columns(unit)].double().cpu() for unit in group]
        typical = max(float(weight.std()), 0.1 * weight[0].numel() ** -0.5)
        drawn = torch.randn((len(group), *columns[0].shape), generator=surgery.generator, dtype=torch.float64)
        drawn *= noise * typical
        common = torch.tensordot(factors, drawn, dims=1) / factors.square().sum()
        for i, unit in enumerate(group):
            values = columns[i] + drawn[i] - factors[i] * common
            surgery.write(f"{reader.path}.weight behind unit {unit}", reader.layer.weight, values,
                          reader.columns(unit))  # fmt: skip
