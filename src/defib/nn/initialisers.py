"""First weights that fit the activation behind them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from defib.core.activation_index import activation_named

Weighted = nn.Linear | nn.modules.conv._ConvNd
"""Layers whose output variance follows from their weight."""


def gain_of(activation: str, slope: float | None = None) -> float:
    """The gain that keeps a backward signal level: 1 / sqrt(E[f'(z)^2]) for z ~ N(0, 1).

    Args:
        activation: Name in ``defib.core.activations`` ("relu", "gelu").
        slope: Negative slope of a leaky ReLU; None for its default.

    Returns:
        The gain; 1 for an activation that is unknown or acts on several units at once.
    """
    if activation == "leaky_relu" and slope is not None:
        return math.sqrt(2 / (1 + slope * slope))
    known = activation_named(activation)
    gain = known.backward_gain if known is not None else math.nan
    return gain if math.isfinite(gain) else 1.0


def fans(weight: Tensor) -> tuple[int, int]:
    """Inputs and outputs of one unit: (fan in, fan out) of a weight of at least two axes."""
    field = weight[0][0].numel()
    return weight.shape[1] * field, weight.shape[0] * field


def he_(weight: Tensor, gain: float = math.sqrt(2.0), generator: torch.Generator | None = None) -> Tensor:
    """N(0, gain^2 / fan in), in place (He et al. 2015)."""
    return _normal(weight, gain / math.sqrt(fans(weight)[0]), generator)


def xavier_(weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """N(0, 2 gain^2 / (fan in + fan out)), in place (Glorot and Bengio 2010)."""
    return _normal(weight, gain * math.sqrt(2.0 / sum(fans(weight))), generator)


def lecun_(weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """N(0, gain^2 / fan in) with gain 1, in place (LeCun et al. 1998; SELU needs it)."""
    return _normal(weight, gain / math.sqrt(fans(weight)[0]), generator)


def orthogonal_(weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """Orthonormal rows (or columns, where fewer) times ``gain``, in place (Saxe et al. 2014)."""
    rows, columns = weight.shape[0], weight[0].numel()
    drawn = torch.randn(max(rows, columns), min(rows, columns), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(drawn)
    q = q * r.diagonal().sign()  # else the result is not uniform over rotations
    values = (q if rows >= columns else q.t()).reshape(weight.shape) * gain
    with torch.no_grad():
        return weight.copy_(values)


def lsuv_(
    model: nn.Module, run: Callable[[], object], generator: torch.Generator | None = None
) -> dict[str, float]:
    """Orthonormal weights, scaled layer by layer until each output has variance 1 on the data.

    Args:
        model: Its linear and convolutional layers are initialised in the order in which they run.
        run: Runs the model on a batch ("lambda: model(x)").
        generator: Source of chance; None for torch's own.

    Returns:
        The last measured variance of each layer's output, by path (Mishkin and Matas 2016).
    """
    layers = {n: m for n, m in model.named_modules() if isinstance(m, Weighted)}
    for module in layers.values():
        orthogonal_(module.weight, 1.0, generator)
        if module.bias is not None:
            with torch.no_grad():
                module.bias.zero_()
    found: dict[str, float] = {}
    for path in _in_order(layers, run):
        module = layers[path]
        for _ in range(10):
            variance = found[path] = _variance(module, run)
            if abs(variance - 1) < 0.01 or not variance > 0:
                break
            with torch.no_grad():
                module.weight.div_(math.sqrt(variance))
    return found


def _in_order(layers: Mapping[str, nn.Module], run: Callable[[], object]) -> list[str]:
    """Paths of the layers as they are first called."""
    called: dict[str, None] = {}

    def note(path: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _inputs, _output: called.setdefault(path)

    _quietly(run, [module.register_forward_hook(note(path)) for path, module in layers.items()])
    return list(called)


def _variance(module: nn.Module, run: Callable[[], object]) -> float:
    """Variance over all entries of a layer's output."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        seen.append(output.detach().double().flatten())

    _quietly(run, [module.register_forward_hook(keep)])
    return float(torch.cat(seen).var())


def _quietly(run: Callable[[], object], handles: list[torch.utils.hooks.RemovableHandle]) -> None:
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()


def _normal(weight: Tensor, std: float, generator: torch.Generator | None) -> Tensor:
    """Drawn on the host in float64: the same on every device and in every format."""
    with torch.no_grad():
        return weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64) * std)
