"""Another activation together with the first weights that it needs: one without the other helps little."""

from abc import abstractmethod

import torch
from torch import nn

from defib.core.cause import Cause
from defib.core.prescription import Dose, Safety
from defib.therapy.redraw import dense_layers, redraw
from defib.therapy.surgery import Surgery
from defib.therapy.swap import Swap
from defib.therapy.swap_cases import classifier, functional
from defib.therapy.treatment import Case, Indication


class Rebuild(Swap):
    """Exchanges activations and draws every weight anew for the new ones."""

    safety = Safety.RESTART

    @abstractmethod
    def draw(self, weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """New values for a layer with the new activation behind it, in place."""

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        super().operate(surgery, dose)
        for path, module in dense_layers(surgery.state).items():
            weight = self.draw(module.weight.detach().clone(), surgery.generator)
            redraw(surgery, path, module, weight)


def steady(derivative: float) -> tuple[Indication, ...]:
    """What activation and weights that fit each other are good for.

    Args:
        derivative: Strength where the gradient vanishes; it is 0.1 below for saturated units, and 0.05
            where the gradient explodes through the derivatives.

    Returns:
        The indications.
    """
    why = "activation and weights together keep the gradient's size from layer to layer"
    return (
        Indication(rule="vanishing-gradient", strength=derivative, why=why),
        Indication(rule="saturated-unit", strength=round(derivative - 0.1, 2), why=why),
        Indication(
            rule="exploding-gradient",
            causes=(Cause.ACTIVATION_DERIVATIVE, Cause.DERIVATIVE_AND_WEIGHTS),
            strength=round(derivative - 0.05, 2),
            why=why,
        ),
    )


def cases(kind: type[nn.Module], std: float) -> tuple[Case, ...]:
    """Activations and weights together, and what must be refused.

    Args:
        kind: Class of the new activations.
        std: Deviation of the new weights behind six units.

    Returns:
        The cases.
    """
    return (
        Case(
            name="activations and weights",
            build=lambda: classifier(nn.Sigmoid),
            dose={},
            holds=lambda s: _is_rebuilt(s.model, kind, std) and not s.optimizers[0].state,
        ),
        Case(name="activations called as functions", build=functional, dose={}, refused=True),
    )


def _is_rebuilt(model: nn.Module, kind: type[nn.Module], std: float) -> bool:
    """Whether all activations are of a class and the hidden weights have about that deviation."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    kinds = [type(m) for m in model.children() if not isinstance(m, nn.Linear)]
    return set(kinds) == {kind} and abs(float(layers[1].weight.detach().std()) / std - 1) < 0.5
