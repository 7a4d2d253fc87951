"""Leave a saddle point along a direction that leads down.

What it does:
    The parameters move by a given way along a given direction; the optimiser's stored direction of those
    parameters becomes 0.

When it helps:
    `defib.triage(model, loss, data)` found that the gradient is zero and a direction of negative
    curvature leads down: its answer's ``direction`` and ``report.escape.distance`` are the dose.

When it does not:
    The gradient is small for another reason: dead units, saturation, a minimum. Gradient descent leaves
    most saddles by itself, slowly.

Dose:
    ``file``: an .npz with one array for each parameter, by name and shape (``numpy.savez("way.npz",
    **{name: d.numpy() for name, d in answer.direction.items()})``). ``distance``: how far along it.

Safety:
    The answers change at once. The file is read without pickle; every array must be finite and have its
    parameter's shape.

References:
    Curtis and Robinson 2019, Exploiting negative curvature (arXiv 1703.00412); science.md 6.
"""

import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import ClassVar

import numpy as np
import torch

from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.therapy.moments import halt
from defib.therapy.steps import adaptive, positive
from defib.therapy.surgery import Surgery
from defib.therapy.train_state import TrainState
from defib.therapy.treatment import Case, Indication, Treatment

_GIVEN: dict[str, str | float] = {"file": "", "distance": 2.0}
"""The cases' dose; its file is that of the state built last and goes away with it."""


def _with_way(**other: np.ndarray) -> TrainState:
    """A training state, and a direction for it: all ones on one bias, or what is given."""
    state = adaptive()
    ways = {n: np.zeros(tuple(p.shape)) for n, p in state.bare.named_parameters()}
    ways["0.bias"][:] = 1.0
    folder = tempfile.TemporaryDirectory(prefix="defib-")
    weakref.finalize(state, folder.cleanup)
    _GIVEN["file"] = str(Path(folder.name) / "way.npz")
    np.savez(str(_GIVEN["file"]), **{**ways, **other})  # type: ignore[arg-type]
    return state


class EscapeSaddle(Treatment):
    """Moves along a direction."""

    slug = "escape-saddle"
    title = "Leave a saddle point along a direction that leads down"
    safety = Safety.CHANGES
    indications: ClassVar[tuple[Indication, ...]] = ()
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a way along one bias",
            build=_with_way,
            dose=_GIVEN,
            holds=lambda s: (
                not s.optimizers[0].state[_bias(s)]["exp_avg"].any() and float(_bias(s).detach().min()) > 1
            ),
        ),
        Case(
            name="a way that does not fit",
            build=lambda: _with_way(**{"0.bias": np.ones(3)}),
            dose=_GIVEN,
            refused=True,
        ),
        Case(
            name="a way that is no number",
            build=lambda: _with_way(**{"0.bias": np.full(4, np.nan)}),
            dose=_GIVEN,
            refused=True,
        ),
        Case(name="no way", build=adaptive, dose={"distance": 2.0}, refused=True),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        del finding, run
        return None  # no record holds a direction: defib triage needs the live model

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del draw, layers
        return {}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        distance, ways = positive(dose, "distance", self.slug), _read(dose.get("file"))
        own = dict(surgery.state.bare.named_parameters())
        for name, way in ways.items():
            if name not in own or tuple(own[name].shape) != way.shape or not np.isfinite(way).all():
                raise Refused(f"escape-saddle: {name} is no finite direction of this model's parameters")
        moved = {name: way for name, way in ways.items() if way.any()}
        if not moved:
            raise Refused("escape-saddle: the direction is 0")
        for name, way in moved.items():
            parameter = own[name]
            target = parameter.detach().double().cpu() + distance * torch.from_numpy(way.astype(np.float64))
            surgery.write(name, parameter, target)
            halt(surgery, name, parameter)


def _bias(state: TrainState) -> torch.Tensor:
    return dict(state.bare.named_parameters())["0.bias"]


def _read(path: object) -> dict[str, np.ndarray]:
    """The arrays of a file."""
    if not isinstance(path, str) or not path:
        raise Refused("escape-saddle needs file=DIRECTION.npz, with one array for each parameter")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, AttributeError) as error:
        raise Refused(f"escape-saddle: {path} cannot be read ({type(error).__name__})") from None
