"""Another activation together with the first weights that it needs: one without the other helps little."""

from abc import abstractmethod

import torch
from torch import nn

from defib.core.prescription import Dose, Safety
from defib.therapy.redraw import dense_layers, redraw
from defib.therapy.surgery import Surgery
from defib.therapy.swap import Swap


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


def is_rebuilt(model: nn.Module, kind: type[nn.Module], std: float) -> bool:
    """Whether all activations are of a class and the hidden weights have about that deviation."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    kinds = [type(m) for m in model.children() if not isinstance(m, nn.Linear)]
    return set(kinds) == {kind} and abs(float(layers[1].weight.detach().std()) / std - 1) < 0.5
