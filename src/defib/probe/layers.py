"""Signal and gradient of every layer at the start, and how its first weights suit its activation.

Letters: ``N`` points (samples, or positions of them), ``U`` units.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from defib.core.activation import Activation
from defib.core.checkup import GainLedger, LayerCheck
from defib.probe.graph import Graph, Kind
from defib.probe.meanfield import mean_field
from defib.probe.pairs import cosines, slopes
from defib.torchgraph.nodes import Node, options, saved_tensor

_PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MOST_POINTS = 256


@dataclass
class _Seen:
    """What the calls of one layer gave."""

    calls: int = 0
    entries: int = 0
    squares: float = 0.0
    gradient_entries: int = 0
    gradient_squares: float = 0.0
    points: int = 0
    correlation: float = math.nan
    pairs: Tensor | None = None
    precision: float = math.nan


@dataclass(frozen=True, kw_only=True)
class _Off:
    """An activation with an off side behind a layer."""

    units: int
    off: int


@dataclass
class LayerWatch:
    """Listens to the forward calls of a model's layers, and to the gradients of their outputs.

    Attributes:
        model: The model; its layers are the modules with parameters of their own.
    """

    model: nn.Module
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _handles: list[RemovableHandle] = field(default_factory=list)

    def __enter__(self) -> "LayerWatch":
        self._paths = {id(m): path for path, m in self.model.named_modules() if m._parameters}
        # One global hook: the user's modules get nothing of ours.
        self._handles.append(nn.modules.module.register_module_forward_hook(self._called))
        return self

    def __exit__(self, *_exc: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _called(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        path = self._paths.get(id(module))
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        if path is None or not isinstance(first, Tensor) or not first.is_floating_point():
            return
        with torch._C.DisableTorchFunction(), torch.no_grad():
            seen = self._seen.setdefault(path, _Seen())
            values = first.detach().double()
            seen.calls += 1
            seen.entries += values.numel()
            seen.squares += float(values.square().sum())
            if values.ndim > 1 and values.shape[0] > 1:
                seen.points, seen.correlation = _correlation(values, channels_first=_is_image(module))
                seen.pairs = cosines(values) if seen.calls == 1 else None
                seen.precision = torch.finfo(first.dtype).eps
            if first.requires_grad:
                self._handles.append(first.register_hook(_adder(seen)))  # type: ignore[no-untyped-call]

    def layers(self) -> dict[str, LayerCheck]:
        """Signal and gradient of each layer, in the model's order."""
        found = {}
        for path, module in self.model.named_modules():
            if not module._parameters or all(p is None for p in module._parameters.values()):
                continue
            seen = self._seen.get(path, _Seen())
            found[path] = LayerCheck(
                path=path,
                kind=type(module).__name__,
                calls=seen.calls,
                signal=_rms(seen.squares, seen.entries),
                gradient=_rms(seen.gradient_squares, seen.gradient_entries),
            )
        return found

    def correlation_slopes(self, paths: Sequence[str]) -> list[float]:
        """Slope of the correlation map into each of these layers, given in order of data flow."""
        several = [self._seen.get(path, _Seen()) for path in paths]
        precision = max((s.precision for s in several if not math.isnan(s.precision)), default=math.nan)
        return slopes([s.pairs for s in several], precision)

    def expected_off(self, path: str) -> float:
        """Expected share of units that are off for all points seen; NaN if the layer was not seen."""
        seen = self._seen.get(path, _Seen())
        return expected_off(seen.points, seen.correlation)


def _rms(squares: float, entries: int) -> float:
    return math.sqrt(squares / entries) if entries and math.isfinite(squares) else math.nan


def _is_image(module: nn.Module) -> bool:
    return isinstance(module, (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm))


def _adder(seen: _Seen) -> Callable[[Tensor], None]:
    def add(grad: Tensor) -> None:
        seen.gradient_entries += grad.numel()
        seen.gradient_squares += float(grad.detach().double().square().sum())

    return add


def _correlation(values: Tensor, *, channels_first: bool) -> tuple[int, float]:
    """How many points there are, and the mean cosine between two of them over the units."""
    rows = values.movedim(1, -1) if channels_first else values
    rows = rows.reshape(-1, rows.shape[-1])
    points = rows.shape[0]
    rows = rows[:: max(points // _MOST_POINTS, 1)]
    unit = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-300)
    n = len(unit)
    return points, float((unit.sum(0).square().sum() - n) / (n * (n - 1))) if n > 1 else math.nan


def expected_off(points: int, correlation: float) -> float:
    """P(a unit is off for all points), for normal pre-activations of equal correlation.

    With z_i = sqrt(r) a + sqrt(1 - r) e_i this is E_a[Phi(-sqrt(r / (1 - r)) a)^N]. For one point,
    or for points that are all the same, it is 1/2; for independent ones 2^-N.

    Args:
        points: N.
        correlation: r; below 0 counts as 0.

    Returns:
        The probability; NaN if either is unknown.
    """
    if not points or math.isnan(correlation):
        return math.nan
    r = min(max(correlation, 0.0), 1.0)
    if r > 1 - 1e-9:
        return 0.5
    a = np.linspace(-8, 8, 4001)
    density = np.exp(-0.5 * a**2) / math.sqrt(2 * math.pi)
    slope = math.sqrt(r / (1 - r))
    below = np.array([0.5 * math.erfc(slope * x / math.sqrt(2)) for x in a])
    return float((density * below**points).sum() * (a[1] - a[0]))


def activations_of(graph: Graph) -> dict[str, Node]:
    """For each layer that an activation follows directly, the node of the first such activation."""
    found: dict[str, Node] = {}
    for node in reversed(graph.nodes):
        if graph.kind(node) is not Kind.ACTIVATION:
            continue
        producer = graph.producer(node)
        if producer is not None and (path := graph.path(producer)) not in found:
            found[path] = node
    return found


def off_units(graph: Graph, node: Node, count: int) -> tuple[int, int]:
    """Units behind an activation that can die, and how many of them are off in the whole batch.

    Args:
        graph: The graph.
        node: The activation's node.
        count: Units of the layer in front of it.

    Returns:
        Units and off units; (0, 0) if the activation cannot die or its tensor cannot be read.
    """
    activation = graph.activation(node)
    constants = options(node)
    if activation is None or not activation.may_die(constants):
        return 0, 0
    which = activation.saved(node.name())
    tensor = saved_tensor(node, which)
    if tensor is None:
        return 0, 0
    dims = [a for a in (1, tensor.ndim - 1) if 0 < a < tensor.ndim and tensor.shape[a] == count]
    if not dims:
        return 0, 0
    limits = activation.flat(which, str(tensor.dtype).removeprefix("torch."), constants)
    # Off means flat on one side for all: relu6 that is always at 6 is saturated, not off.
    rows = tensor.movedim(dims[0], -1).reshape(-1, count)
    return count, int((rows <= limits.low).all(0).sum())


def judged(
    layer: LayerCheck, module: nn.Module, graph: Graph, node: Node | None, watch: LayerWatch
) -> LayerCheck:
    """The same layer with what is known of its activation.

    Args:
        layer: Its signal.
        module: The layer itself.
        graph: The graph of the loss.
        node: The activation behind it; None if there is none.
        watch: What saw its output.

    Returns:
        A new record.
    """
    activation = graph.activation(node) if node is not None else None
    gain, weights, biases = first_gain(module)
    known = activation is not None and math.isfinite(activation.backward_gain)
    layer = replace(layer, gain=gain, activation=activation.name if activation else "")
    if activation is None or node is None:
        return layer
    bias = getattr(module, "bias", None)
    weight = getattr(module, "weight", None)
    sized = bias if isinstance(bias, Tensor) else weight
    units, off = off_units(graph, node, int(sized.shape[0])) if isinstance(sized, Tensor) else (0, 0)
    layer = replace(layer, units=units, off=off)
    if units:
        layer = replace(layer, expected_off=watch.expected_off(layer.path))
    if known and math.isfinite(gain):
        depth = mean_field(activation, weights, biases, options(node)).depth
        layer = replace(layer, needed=needed_gain(activation), depth=depth)
    return layer


def is_chain(ledger: GainLedger | None) -> bool:
    """Whether the gradient's way has neither branches nor norms: mean-field theory knows no others."""
    if ledger is None:
        return False
    return not any(s.block or s.attention or s.unknown or s.gain.norms for s in ledger.stretches)


def sloped(layers: Mapping[str, LayerCheck], watch: LayerWatch) -> dict[str, LayerCheck]:
    """The layers of a plain chain with the slope of the correlation map into each that an activation follows.

    Args:
        layers: By path, in order of data flow.
        watch: What saw their outputs.

    Returns:
        New records.
    """
    paths = [path for path, layer in layers.items() if layer.activation]
    found = dict(zip(paths, watch.correlation_slopes(paths), strict=True))
    return {path: replace(x, slope=found.get(path, math.nan)) for path, x in layers.items()}


def first_gain(module: nn.Module) -> tuple[float, float, float]:
    """rms(w) sqrt(fan-in), its square as the theory has it, and the mean square of the biases.

    Returns:
        Three numbers; NaN and zeros for a layer that is not a plain product with weights.
    """
    weight = getattr(module, "weight", None)
    if not isinstance(module, _PLAIN) or not isinstance(weight, Tensor) or not weight.numel():
        return math.nan, 0.0, 0.0
    square = float(weight.detach().double().square().mean()) * (weight.numel() // weight.shape[0])
    bias = module.bias
    return math.sqrt(square), square, 0.0 if bias is None else float(bias.detach().double().square().mean())


def needed_gain(activation: Activation) -> float:
    """The weights' gain that keeps gradients level: 1 / sqrt(E f'^2); 1 where no slope reaches 1.

    Sigmoid would need weights of 4.7, which saturate it: there the derivative is to blame.

    Returns:
        rms(w) sqrt(fan-in) of level weights.
    """
    slopes = activation.derivative(np.linspace(-4, 4, 401))
    return activation.backward_gain if float(np.max(slopes)) > 0.9 else 1.0
