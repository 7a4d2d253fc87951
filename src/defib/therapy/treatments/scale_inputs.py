"""Centre and scale the inputs in front of the first layer.

What it does:
    With the mean and standard deviation of each feature given, the inputs are
    standardised in front of the first layer and its weights and bias are rewritten
    so that the answers stay what they are: w becomes w * std, b becomes
    b + w . mean. From then on gradients are those of standardised data. Without
    them, the inputs are normalised by the statistics of each batch, and by their
    running mean in evaluation.

When it helps:
    Features on very different scales, far from zero, or all positive: every sample
    then pushes the first layer the same way, and one step can kill all of its units.

When it does not:
    Features whose scale means something (images of one sensor); inputs that are
    indices.

Dose:
    ``layer``: path of the first layer. ``mean`` and ``std``: one number for each feature, or neither.

Safety:
    With numbers the answers stay within rounding. Without, they change at once. What the optimiser
    remembers of the first layer is taken away: it belongs to other coordinates.

References:
    LeCun et al. 1998, Efficient BackProp, section 4.3; science.md S1-5, truth 8.
"""

from collections.abc import Sequence
from random import Random
from typing import ClassVar

import torch
from torch import nn

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.nn.norms import Standardise, UnitNorm
from defib.therapy.moments import restart
from defib.therapy.normalise import deep
from defib.therapy.redraw import dense_layers
from defib.therapy.surgery import Surgery
from defib.therapy.treatment import Case, Indication, Treatment

_NAME = "defib_input"


class ScaleInputs(Treatment):
    """Standardises what enters the first layer."""

    slug = "scale-inputs"
    title = "Centre and scale the inputs in front of the first layer"
    safety = Safety.CHANGES
    indications = (
        Indication(
            rule="unscaled-data",
            causes=(Cause.LARGE_INPUTS, Cause.SMALL_INPUTS),
            strength=0.9,
            why="the first layer sees features on one scale",
        ),
        Indication(
            rule="dead-unit",
            causes=(Cause.BORN_DEAD, Cause.DIED_AT_STEP),
            strength=0.55,
            why="samples no longer push all weights the same way",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="with numbers the answers stay",
            build=deep,
            dose={"mean": (3, 0, -2, 1), "std": (2, 1, 5, 1)},
            preserves=True,
            tolerance=1e-5,
            inputs=lambda: (torch.linspace(-3, 3, 20).reshape(5, 4),),
            holds=lambda s: isinstance(dict(s.module("0").named_children())[_NAME], Standardise),
        ),
        Case(
            name="without numbers each batch is normalised",
            build=deep,
            dose={},
            holds=lambda s: isinstance(dict(s.module("0").named_children())[_NAME], UnitNorm),
        ),
        Case(name="another number of features", build=deep, dose={"mean": (1,), "std": (1,)}, refused=True),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        del finding
        first = run.objective.input_layer if run.objective is not None else ""
        layer = run.layer(first)
        dense = layer is not None and layer.kind.startswith(("Linear", "Conv"))
        return {"layer": first} if dense else None

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del draw, layers
        return {}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        layers = dense_layers(surgery.state, str(dose.get("layer", "")))
        path, layer = next(iter(layers.items()))
        linear = isinstance(layer, nn.Linear)
        features = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        if "mean" not in dose and "std" not in dose:
            surgery.only_rank(
                f"{path}: the job's ranks would not share new running statistics; give mean and std"
            )
            surgery.attach(path, _NAME, UnitNorm(features, channels=not linear, affine=False), before=True)
            return
        mean, std = (torch.tensor(dose.get(k, ()), dtype=torch.float64) for k in ("mean", "std"))
        if mean.shape != (features,) or std.shape != (features,):
            raise Refused(f"{path} has {features} features: mean and std need one number for each")
        bias = layer.bias
        bias = layer.bias
        if not linear or bias is None:
            raise Refused(f"{path}: answers can be kept only for a linear layer with a bias")
        scale = Standardise(mean, std)
        weight = layer.weight.detach().double()
        shift = weight.cpu() @ mean
        surgery.attach(path, _NAME, scale, before=True)
        for name, parameter, values in (
            (f"{path}.weight", layer.weight, weight * scale.std.to(weight)),
            (f"{path}.bias", bias, bias.detach().double().cpu() + shift),
        ):
            surgery.write(name, parameter, values)
            restart(surgery, name, parameter)
