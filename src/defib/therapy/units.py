"""Edits some units of a layer: what comes in, what goes out, and the optimiser's memory of exactly those.

Letters: ``U`` units of a layer, ``D`` weights that come into one unit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch
from torch import nn

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose, Prescription, Safety
from defib.core.run import RunView
from defib.therapy.moments import restart, settle
from defib.therapy.normalise import units_of
from defib.therapy.readers import Outlet, outlet
from defib.therapy.redraw import Dense, dense_layers
from defib.therapy.steps import number_of
from defib.therapy.surgery import Surgery
from defib.therapy.treatment import Treatment

Place = tuple[str, torch.Tensor, tuple[Any, ...]]
"""A parameter's name, the parameter, and the part of it that is meant."""


@dataclass(frozen=True, kw_only=True)
class Ward:
    """Some units of one layer in the live network.

    Attributes:
        path: The layer.
        layer: The layer.
        units: Which of its units, sorted.
        outlet: Who reads them; None where nobody asked.
    """

    path: str
    layer: Dense
    units: tuple[int, ...]
    outlet: Outlet | None = None

    @property
    def whole(self) -> bool:
        """All units of the layer are meant."""
        return len(self.units) == units_of(self.layer)

    @property
    def index(self) -> tuple[torch.Tensor]:
        """The units' rows, as in ``weight[index]``."""
        return (torch.tensor(self.units, device=self.layer.weight.device),)

    @property
    def others(self) -> tuple[torch.Tensor]:
        """The other units' rows."""
        rest = sorted(set(range(units_of(self.layer))) - set(self.units))
        return (torch.tensor(rest, dtype=torch.int64, device=self.layer.weight.device),)

    def incoming(self, surgery: Surgery) -> Iterator[Place]:
        """The units' rows of weight, bias and of the normalisations of single units."""
        for name in ("weight", "bias"):
            parameter = getattr(self.layer, name)
            if isinstance(parameter, nn.Parameter):
                yield f"{self.path}.{name}", parameter, self.index
        for norm in self.outlet.norms if self.outlet is not None else ():
            for name, parameter in surgery.state.module(norm).named_parameters():
                yield f"{norm}.{name}", parameter, self.index

    def outgoing(self) -> Iterator[Place]:
        """The columns that read the units."""
        for reader in self.outlet.readers.values() if self.outlet is not None else ():
            weight = reader.layer.weight
            if not isinstance(weight, nn.Parameter):
                raise Refused(f"{reader.path}.weight is computed, not trained itself")
            heard = torch.zeros_like(weight, dtype=torch.bool)
            for unit in self.units:
                heard[reader.columns(unit)] = True
            yield f"{reader.path}.weight", weight, (heard,)


def ward(surgery: Surgery, dose: Dose, slug: str, *, readers: bool) -> Ward:
    """The units that a dose names.

    Args:
        surgery: The state.
        dose: ``layer``, ``units`` and perhaps ``into``.
        slug: The treatment, for its words.
        readers: Find out who reads them.

    Returns:
        The units in the live network.

    Raises:
        Refused: If there is no such layer or unit, or their readers cannot be told.
    """
    path = str(dose.get("layer", ""))
    if not path:
        raise Refused(f"{slug} needs a layer and units (--treat {slug}:layer=fc1,units=[3,5])")
    layer = dense_layers(surgery.state, path)[path]
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        raise Refused(f"{path} is a transposed convolution, whose weights defib does not tell apart by units")
    units = numbers(dose, "units")
    total = units_of(layer)
    if not units or any(u != int(u) or not 0 <= u < total for u in units):
        raise Refused(f"{slug}: {path} has units 0 to {total - 1}, not {list(units) or 'none'}")
    into = dose.get("into", ())
    names = into if isinstance(into, tuple) else (str(into),)
    found = outlet(surgery.state, path, tuple(map(str, names))) if readers else None
    return Ward(path=path, layer=layer, units=tuple(sorted({int(u) for u in units})), outlet=found)


def numbers(dose: Dose, name: str) -> tuple[float, ...]:
    """A list of numbers in a dose; one number is a list of one."""
    given = dose.get(name, ())
    listed = given if isinstance(given, tuple) else (given,)
    if any(isinstance(v, (str, bool)) for v in listed):
        raise Refused(f"{name} takes numbers, not {given!r}")
    return tuple(float(v) for v in listed)


def renew(surgery: Surgery, ward: Ward) -> None:
    """Makes the optimiser start anew with the units, coming in and going out, and with nothing else.

    Where all units of a layer are meant no other tells what size of gradient is usual: the whole
    parameter then starts as on the first step, whose update is one learning rate.
    """
    if ward.whole:
        places = (*ward.incoming(surgery), *ward.outgoing())
        for name, parameter in {id(p): (n, p) for n, p, _ in places}.values():
            restart(surgery, name, parameter)
        return
    for name, parameter, where in ward.incoming(surgery):
        settle(surgery, name, parameter, where, ward.others)
    for name, parameter, where in ward.outgoing():
        settle(surgery, name, parameter, where, (~where[0],))


def silence(surgery: Surgery, ward: Ward) -> None:
    """Sets to 0 what the readers make of the units: whatever they give from now on, nobody hears it yet."""
    for name, parameter, where in ward.outgoing():
        surgery.write(f"{name} behind {ward.path}", parameter, torch.zeros(()), where)


def chosen(finding: Finding, run: RunView) -> dict[str, Any] | None:
    """The layer and the units that a finding is about; None if it is not about units of a plain layer."""
    kinds = {layer.path: layer.kind for layer in run.layers}
    dense = [m for m in (*finding.modules, finding.layer) if kinds.get(m, "").startswith(("Linear", "Conv"))]
    return {"layer": dense[0], "units": finding.units} if finding.units and dense else None


class UnitTreatment(Treatment):
    """Changes some units of one layer.

    The dose: ``layer``, a path; ``units``, their numbers; ``into``, the layers that read them, only
    where defib cannot find them by itself.
    """

    safety = Safety.PRESERVES

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        return chosen(finding, run)

    def prescribe(self, finding: Finding, run: RunView) -> Prescription | None:
        found = super().prescribe(finding, run)
        died = number_of(finding, "last death")
        if found is None or finding.cause is not Cause.DIED_AT_STEP or not died > 0:
            return found
        return replace(found, at=int(died) + 1)  # before that they are no dead units

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        return {"layer": draw.choice(list(layers)), "units": (0,)} if layers else {}


def refresh(surgery: Surgery, path: str, module: nn.Module, units: Sequence[int]) -> None:
    """Makes the optimiser start anew with some units' rows of a module's own parameters."""
    for name, parameter in module.named_parameters(recurse=False):
        rest = sorted(set(range(parameter.shape[0])) - set(units))
        if rest:
            rows, others = (torch.tensor(i, device=parameter.device) for i in (list(units), rest))
            settle(surgery, f"{path}.{name}", parameter, (rows,), (others,))
        else:
            restart(surgery, f"{path}.{name}", parameter)
