"""Set the loss scale of mixed precision so that small gradients survive.

What it does:
    The scale of the GradScaler becomes what lifts the smallest gradients to the smallest normal number
    of their format; its own search goes on from there.

When it helps:
    Gradients in float16 are rounded to zero.

When it does not:
    Their range is wider than the format: then the largest overflow first, and the scaler takes the scale
    back. bfloat16 has float32's range and needs no scale.

Dose:
    ``scale``: prescribed from the smallest gradient that was read, as a power of two, at most what the
    largest gradient allows.

Safety:
    Weights and moments stay; the gradients are divided by the scale before each step anyway. Refused
    without a GradScaler: a patch shows where it goes.

References:
    Micikevicius et al. 2018, Mixed precision training (arXiv 1710.03740), section 3.2.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import ClassVar

import torch
from torch import nn

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose, Prescription, Safety
from defib.core.run import RunView
from defib.therapy.steps import number_of, positive, stepping
from defib.therapy.surgery import Surgery
from defib.therapy.train_state import TrainState
from defib.therapy.treatment import Case, Indication, Treatment


def _scaled(started: bool = True) -> TrainState:
    """A layer with a scaler."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    if started:
        scaler.scale(model(torch.ones(1, 2)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    return TrainState(model=model, optimizers=(optimizer,), scaler=scaler)


class RaiseLossScale(Treatment):
    """Sets the GradScaler's scale."""

    slug = "raise-loss-scale"
    title = "Set the loss scale so that small gradients survive"
    safety = Safety.SETTINGS
    indications = (
        Indication(
            rule="gradient-underflow",
            causes=(Cause.BELOW_PRECISION,),
            strength=0.9,
            why="the smallest gradients become normal numbers of their format",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a scaler at work",
            build=_scaled,
            dose={"scale": 1024.0},
            holds=lambda s: s.scaler.get_scale() == 1024.0,
        ),
        Case(
            name="a scaler before its first step",
            build=lambda: _scaled(False),
            dose={"scale": 1024.0},
            holds=lambda s: s.scaler.get_scale() == 1024.0,
        ),
        Case(name="no scaler", build=stepping, dose={"scale": 1024.0}, refused=True),
        Case(name="a scale of 0", build=_scaled, dose={"scale": 0}, refused=True),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        del run
        wanted = number_of(finding, "loss scale that lifts that size to the smallest normal number")
        most = number_of(finding, "largest loss scale before these gradients overflow")
        if math.isnan(wanted):
            return None
        return {"scale": min(wanted, most) if most > 0 else wanted}

    def prescribe(self, finding: Finding, run: RunView) -> Prescription | None:
        found = super().prescribe(finding, run)
        scaled = any(len(o.scale) for o in run.optimizers)
        return found if found is None or scaled else replace(found, safety=Safety.SOURCE)

    def patch(self, finding: Finding, run: RunView, dose: Dose) -> str:
        del finding
        if any(len(o.scale) for o in run.optimizers):
            return ""
        return (
            f"scaler = torch.amp.GradScaler(init_scale={float(str(dose['scale'])):g}); then "
            "scaler.scale(loss).backward(), scaler.step(optimizer), scaler.update() in the place of "
            "loss.backward() and optimizer.step(). Or compute in bfloat16, which needs no scale"
        )

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del layers
        return {"scale": 2.0 ** draw.randint(0, 16)}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        scale, scaler = positive(dose, "scale", self.slug), surgery.state.scaler
        if scaler is None or not scaler.is_enabled():
            raise Refused(
                "raise-loss-scale: no GradScaler is at work here; defib prescribe shows where it goes"
            )
        if scaler._scale is None:
            surgery.attribute("GradScaler.init_scale", scaler, "_init_scale", scale)
        else:
            surgery.write("GradScaler.scale", scaler._scale, torch.tensor(scale))
