"""Exchanges one activation for another in the live network."""

import copy
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from defib.core.activation_index import activations
from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose, Prescription, Safety
from defib.core.run import RunView
from defib.core.site import Site
from defib.core.wiring import Wiring
from defib.therapy.surgery import Surgery
from defib.therapy.treatment import Indication, Treatment


class Swap(Treatment):
    """Puts another activation in the place of the modules that are activations now.

    The dose names them: ``activations``, paths of modules; none for all. A shared
    module is exchanged at all its places.
    """

    safety = Safety.CHANGES

    activation: ClassVar[str]
    """What it puts in, by its name in ``core.activations``."""

    @abstractmethod
    def make(self, old: nn.Module) -> nn.Module:
        """The new activation in the place of ``old``."""

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        wirings = self._others(finding, run)
        paths = dict.fromkeys(path for w in wirings if (path := own_module(w, run)))
        return {"activations": tuple(paths)} if wirings else None

    def prescribe(self, finding: Finding, run: RunView) -> Prescription | None:
        found = super().prescribe(finding, run)
        functional = found is not None and not found.dose["activations"]
        return replace(found, safety=Safety.SOURCE) if found is not None and functional else found

    def patch(self, finding: Finding, run: RunView, dose: Dose) -> str:
        if dose["activations"]:
            return ""
        names = sorted({w.activation for w in self._others(finding, run)})
        where = f"behind {finding.layer}" if finding.layer else "in the model's forward"
        module = type(self.make(nn.ReLU())).__name__
        home = "torch.nn" if hasattr(nn, module) else "defib.nn"
        return (
            f"{where}, {' and '.join(names)} is called as a function: make {home}.{module}() a module in "
            "__init__ and call that instead"
        )

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del draw, layers
        return {"activations": ()}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        given = dose.get("activations", ())
        paths = given if isinstance(given, tuple) else (str(given),)
        paths = paths or hidden_activations(surgery.state.bare)
        if not paths:
            raise Refused(f"{self.slug}: no hidden activation of this model is a module; see its patch")
        for path in map(str, paths):
            old = surgery.state.module(path)
            if not (is_activation(old) or computes_alone(old)):
                raise Refused(f"{self.slug}: {path} is a {type(old).__name__}, no activation")
        for path in map(str, paths):
            self._swap(surgery, path)

    def _others(self, finding: Finding, run: RunView) -> tuple[Wiring, ...]:
        """The activations concerned that are not this one already."""
        fast = overflowing(run) if finding.rule in _GROWING else ()
        if fast or finding.rule == "non-finite":
            return fast  # wherever it was noticed: each of them adds to it
        return tuple(w for w in concerned(finding, run) if w.activation != self.activation)

    def _swap(self, surgery: Surgery, path: str) -> None:
        old = surgery.state.module(path)
        new = self.make(old)
        for place in surgery.state.uses_of(old):
            surgery.replace(place, new)
        trained = [p for o in surgery.state.optimizers for g in o.param_groups for p in g["params"]]
        for parameter in new.parameters():
            surgery.adopt(parameter, trained[0], f"{path} ({type(new).__name__})")


def for_its_slope(*, dead: float = 0.0, derivative: float = 0.0, flat: float = 0.0) -> tuple[Indication, ...]:
    """What an activation is good for whose derivative is nowhere next to zero.

    Args:
        dead: Strength for units that are dead; 0 for none.
        derivative: Strength where the derivatives take the gradient away; 0 for none.
        flat: Strength for units in the flat part of a bounded activation; 0 for none.

    Returns:
        The indications.
    """
    taken = (Cause.ACTIVATION_DERIVATIVE, Cause.DERIVATIVE_AND_WEIGHTS)
    found = (
        Indication(
            rule="dead-unit", strength=dead, why="every unit gets a gradient, wherever its input lies"
        ),
        Indication(
            rule="vanishing-gradient",
            causes=taken,
            strength=derivative,
            why="its derivative takes less of the gradient away in each layer",
        ),
        Indication(rule="saturated-unit", strength=flat, why="it is not flat for large inputs"),
    )
    return tuple(one for one in found if one.strength)


_GROWING = {"non-finite", "exploding-gradient"}
"""Findings for which activations that overflow by themselves are to be exchanged, where there are any."""

_FASTER_THAN_LINES = {"exp"}
"""Activations that overflow by themselves: a few of them in a row make infinity of inputs of size 1."""


def hidden_activations(model: nn.Module) -> tuple[str, ...]:
    """Paths of activation modules that stand before the last layer with parameters.

    What shapes the answer is not for a treatment to exchange: its loss may take nothing else.

    Returns:
        Paths, in the model's own order.
    """
    found: list[str] = []
    hidden: list[str] = []
    for path, module in model.named_modules():
        if is_activation(module) or computes_alone(module):
            found.append(path)
        elif any(True for _ in module.parameters(recurse=False)):
            hidden = list(found)
    return tuple(hidden)


def is_activation(module: nn.Module) -> bool:
    """An elementwise activation of torch or of ours, not a softmax, gate or attention."""
    home = type(module).__module__
    excluded = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d, nn.MultiheadAttention, nn.GLU)
    known = home in {"torch.nn.modules.activation", "defib.nn.activations"}
    return known and not isinstance(module, excluded)


def computes_alone(module: nn.Module) -> bool:
    """Whether a module of the user's own is an activation: one of those that defib knows, and no more.

    It holds nothing (parameters, buffers, parts, hooks), and a copy of it gives for 64 numbers from -4
    to 4, in two shapes, what a known elementwise function gives.

    Args:
        module: The module; it is not called itself.

    Returns:
        False as well where calling the copy fails.
    """
    if module._modules or module._parameters or module._buffers:
        return False
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    numbers = torch.linspace(-4, 4, 64)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=()):
            alone = copy.deepcopy(module)
            given = alone(numbers.reshape(4, 16)), alone(numbers.reshape(8, 8))
    except Exception:  # noqa: BLE001 - a module may do anything with numbers that it did not expect
        return False
    if not all(torch.is_tensor(g) and g.dtype == torch.float32 for g in given):
        return False
    if given[0].shape != (4, 16) or given[1].shape != (8, 8):
        return False
    first, second = (g.reshape(-1).double().numpy() for g in given)
    if not (first == second).all():
        return False
    with np.errstate(all="ignore"):
        known = (a.forward(numbers.double().numpy()) for a in activations() if a.name not in _JOINT)
        return any(np.allclose(first, values, rtol=1e-5, atol=1e-6) for values in known)


_JOINT = {"softmax", "log_softmax", "maximum"}
"""Activations that take the entries of a sample together."""


def concerned(finding: Finding, run: RunView) -> tuple[Wiring, ...]:
    """Hidden activations that a finding is about: its layer's, or all of them."""
    if finding.layer:
        found = run.wiring(Site(path=finding.layer, call=finding.call))
        return () if found is None or found.output else (found,)
    return tuple(w for w in run.wirings if not w.output)


def overflowing(run: RunView) -> tuple[Wiring, ...]:
    """Hidden activations that overflow by themselves."""
    return tuple(w for w in run.wirings if not w.output and w.activation in _FASTER_THAN_LINES)


def own_module(wiring: Wiring, run: RunView) -> str:
    """Path of the activation's own module; "" where it is called as a function."""
    last = wiring.modules[-1] if wiring.modules else wiring.site.path
    return "" if run.layer(last) is not None else last
