"""Draws weights anew, with what the optimiser remembers of them."""

from abc import abstractmethod
from collections.abc import Sequence
from random import Random

import torch
from torch import nn

from defib.core.activation_index import activations
from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.nn.initialisers import gain_of
from defib.therapy.moments import restart
from defib.therapy.surgery import Surgery
from defib.therapy.train_state import TrainState
from defib.therapy.treatment import Case, Indication, Treatment

Dense = nn.Linear | nn.modules.conv._ConvNd
"""Layers whose weights are drawn."""


class Redraw(Treatment):
    """Draws the weights of one layer, or of all, for the activation behind them; biases become 0.

    The dose: ``layer``, a path or nothing for all of the network; ``activation``, a name in
    ``defib.core.activations``, or nothing to look at the module that follows.
    """

    safety = Safety.RESTART

    @abstractmethod
    def draw(self, weight: torch.Tensor, gain: float, generator: torch.Generator) -> torch.Tensor:
        """New values of the shape of ``weight``, in place."""

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        del finding
        hidden = [w.activation for w in run.wirings if not w.output]
        usual = max(set(hidden), key=hidden.count) if hidden else ""
        return {"activation": usual} if usual else {}

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del draw, layers
        return {}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        layers = dense_layers(surgery.state, str(dose.get("layer", "")))
        given = str(dose.get("activation", ""))
        if given and given not in {a.name for a in activations()}:
            raise Refused(f"{self.slug}: no activation is called {given!r}")
        last = list(layers)[-1]
        alone = len(layers) == 1
        for path, module in layers.items():
            name = given or following(surgery.state.bare, path)
            gain = gain_of(name) if alone or path != last else 1.0
            redraw(surgery, path, module, self.draw(module.weight.detach().clone(), gain, surgery.generator))


def to_scale(start: float, weights: float) -> tuple[Indication, ...]:
    """What weights of the right variance are good for.

    Args:
        start: Strength where the first weights are the cause.
        weights: Strength where a gradient vanishes or explodes through the weights; units that are
            saturated or born dead follow a tenth and three twentieths below.

    Returns:
        The indications.
    """
    why = "weights of the right variance neither shrink nor multiply the signal"
    through = (Cause.WEIGHTS, Cause.DERIVATIVE_AND_WEIGHTS)
    first = (Cause.WEIGHTS_TOO_SMALL, Cause.WEIGHTS_TOO_LARGE, Cause.ZERO_WEIGHTS, Cause.CLONED_UNITS)
    return (
        Indication(rule="initialisation", causes=first, strength=start, why=why),
        Indication(rule="vanishing-gradient", causes=through, strength=weights, why=why),
        Indication(rule="exploding-gradient", causes=through, strength=weights, why=why),
        Indication(rule="dead-unit", causes=(Cause.BORN_DEAD,), strength=round(weights - 0.15, 2), why=why),
        Indication(rule="saturated-unit", strength=round(weights - 0.1, 2), why=why),
        Indication(rule="cloned-unit", strength=start, why="units that are drawn apart learn apart"),
    )


def redraw(surgery: Surgery, path: str, module: Dense, weight: torch.Tensor) -> None:
    """Puts new weights into a layer, zeros into its bias, and restarts both in the optimiser."""
    for name, parameter, values in (
        (f"{path}.weight", module.weight, weight),
        (f"{path}.bias", module.bias, torch.zeros(())),
    ):
        if isinstance(parameter, nn.Parameter):
            surgery.write(name, parameter, values)
            restart(surgery, name, parameter)


def dense_layers(state: TrainState, path: str = "") -> dict[str, Dense]:
    """Linear and convolutional layers that are trained, in the model's own order.

    Args:
        state: The model.
        path: One layer only; "" for all.

    Returns:
        Modules by path.

    Raises:
        Refused: If there is none, or a weight is tied to another layer's.
    """
    if path:
        module = state.module(path)
        if not isinstance(module, Dense):
            raise Refused(
                f"{path} is a {type(module).__name__}: only linear layers and convolutions are redrawn"
            )
        found: dict[str, Dense] = {path: module}
    else:
        found = {
            n: m for n, m in state.bare.named_modules() if isinstance(m, Dense) and m.weight.requires_grad
        }
    if not found:
        raise Refused("the model has no linear layer and no convolution that is trained")
    for name, module in found.items():
        names = state.paths_of(module.weight)
        if len(names) > 1:
            raise Refused(f"the weight of {name} is tied ({' = '.join(names)}): a change would change both")
        if not names or nn.utils.parametrize.is_parametrized(module):
            raise Refused(f"the weight of {name} is computed from other parameters (weight norm or alike)")
    return found


def following(model: nn.Module, path: str) -> str:
    """The activation module that follows a layer in the model's own order; "" if none does."""
    names = {a.name.replace("_", ""): a.name for a in activations()}
    seen = False
    for name, module in model.named_modules():
        if seen and isinstance(module, Dense):
            return ""
        kind = type(module).__name__.lower()
        if seen and kind in names:
            return names[kind]
        seen = seen or name == path
    return ""


def bad_start(scale: float = 0.01) -> TrainState:
    """A small trained network whose weights are far too small, with Adam's moments, for cases."""
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        (model(torch.randn(8, 6)) - 1).square().mean().backward()
        optimizer.step()
    return TrainState(model=model, optimizers=(optimizer,))


def tied() -> TrainState:
    """Two layers that share a weight."""
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    b.weight = a.weight
    model = nn.Sequential(a, nn.ReLU(), b)
    return TrainState(model=model, optimizers=(torch.optim.SGD(model.parameters(), lr=0.1),))


def cases(std: float, rows: float = 0.0) -> tuple[Case, ...]:
    """The whole net, one layer, tied weights and unknown words, for a treatment that draws weights.

    Args:
        std: Expected standard deviation of the weights between the hidden layers of width 8.
        rows: Instead, the expected norm of each row; 0 to look at ``std``.

    Returns:
        The cases.
    """

    def right(state: TrainState, path: str) -> bool:
        weight = dense_layers(state, path)[path].weight.detach()
        if rows:
            return bool((weight.norm(dim=1) - rows).abs().max() < 1e-3)
        return abs(float(weight.std()) / std - 1) < 0.35  # 64 draws: four standard errors

    def fresh(state: TrainState) -> bool:
        return not state.optimizers[0].state

    return (
        Case(name="the whole network", build=bad_start, dose={}, holds=lambda s: right(s, "2") and fresh(s)),
        Case(
            name="one layer only",
            build=bad_start,
            dose={"layer": "2"},
            holds=lambda s: right(s, "2") and not right(s, "4"),
        ),
        Case(name="tied weights", build=tied, dose={}, refused=True),
        Case(name="an unknown activation", build=bad_start, dose={"activation": "?"}, refused=True),
        Case(name="no such layer", build=bad_start, dose={"layer": "9"}, refused=True),
    )
