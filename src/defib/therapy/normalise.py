"""Puts normalisation behind layers of the live network."""

from abc import abstractmethod
from collections.abc import Sequence
from random import Random

import torch
from torch import nn

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.therapy.redraw import Dense, dense_layers
from defib.therapy.surgery import Surgery
from defib.therapy.train_state import TrainState
from defib.therapy.treatment import Case, Indication, Treatment

NAME = "defib_norm"
"""Child of the layer under which the normalisation stands in the state dict."""


class InsertNorm(Treatment):
    """Normalises what layers give, before their activation.

    The dose: ``layers``, paths of linear layers and convolutions; none for all but the last.
    """

    safety = Safety.CHANGES

    @abstractmethod
    def make(self, layer: Dense) -> nn.Module:
        """The normalisation for one layer's output."""

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        del finding
        kinds = {x.path: x.kind for x in run.layers}
        plain = [w.site.path for w in run.wirings if not w.output and not w.normalised]
        paths = [p for p in dict.fromkeys(plain) if kinds.get(p, "").startswith(("Linear", "Conv"))]
        return {"layers": tuple(paths)} if paths else None

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del draw, layers
        return {}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        given = dose.get("layers", ())
        paths = given if isinstance(given, tuple) else (str(given),)
        layers = dense_layers(surgery.state)
        wanted = {str(p): dense_layers(surgery.state, str(p))[str(p)] for p in paths}
        if not wanted:
            wanted = dict(list(layers.items())[:-1])
        if not wanted:
            raise Refused(f"{self.slug}: the only layer gives the answer itself, which is not normalised")
        for path, layer in wanted.items():
            new = self.make(layer)
            surgery.attach(path, NAME, new, before=False)
            for name, parameter in new.named_parameters():
                surgery.adopt(parameter, layer.weight, f"{path}.{NAME}.{name}")  # type: ignore[arg-type]


def level(signal: float, units: float) -> tuple[Indication, ...]:
    """What normalisation is good for.

    Args:
        signal: Strength where a signal or gradient shrinks or grows from layer to layer; bad first
            weights follow at 0.06 and saturation at 0.1 below.
        units: Strength for units that are dead, and for inputs of another scale.

    Returns:
        The indications.
    """
    back = "each layer's signal is brought back to scale"
    return (
        Indication(rule="vanishing-gradient", strength=signal, why=back),
        Indication(rule="exploding-gradient", strength=signal, why=back),
        Indication(
            rule="initialisation",
            causes=(Cause.WEIGHTS_TOO_SMALL, Cause.WEIGHTS_TOO_LARGE),
            strength=round(signal - 0.06, 2),
            why="the scale of the weights no longer matters to the signal",
        ),
        Indication(rule="dead-unit", strength=units, why="every unit sees inputs on both sides of its kink"),
        Indication(
            rule="saturated-unit",
            strength=round(signal - 0.1, 2),
            why="inputs stay where the activation has a slope",
        ),
        Indication(
            rule="unscaled-data",
            causes=(Cause.LARGE_INPUTS, Cause.SMALL_INPUTS),
            strength=units,
            why="the first layer's output no longer has the data's scale",
        ),
    )


def units_of(layer: Dense) -> int:
    """Length of a layer's unit axis."""
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def deep(depth: int = 3, images: bool = False) -> TrainState:
    """A small plain network in training, for cases."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Conv2d(2, 2, 3, padding=1) if images and i == 0 else nn.Linear(4, 4), nn.Tanh()]
    model = nn.Sequential(*layers, nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.zero_grad()
    model(torch.randn(8, 2, 4, 4) if images else torch.randn(8, 4)).square().mean().backward()
    optimizer.step()
    return TrainState(model=model, optimizers=(optimizer,))


def cases() -> tuple[Case, ...]:
    """All hidden layers, one of them, images, and what is refused."""

    def has(state: TrainState, path: str) -> bool:
        return NAME in dict(state.module(path).named_children())

    def owned(state: TrainState) -> bool:
        return all(state.owner(p) is not None for p in state.model.parameters())

    return (
        Case(
            name="all but the last layer",
            build=deep,
            dose={},
            holds=lambda s: has(s, "0") and has(s, "4") and not has(s, "6") and owned(s),
        ),
        Case(
            name="one layer",
            build=deep,
            dose={"layers": ("2",)},
            holds=lambda s: has(s, "2") and not has(s, "0"),
        ),
        Case(name="a convolution", build=lambda: deep(images=True), dose={"layers": ("0",)}, holds=owned),
        Case(name="an activation is no layer", build=deep, dose={"layers": ("1",)}, refused=True),
        Case(name="a single layer", build=lambda: deep(0), dose={}, refused=True),
    )
