"""The products of weights and features that a forward pass makes, as a model's own code calls for them.

Letters: ``N`` rows (samples, or positions of them), ``K`` chosen units, ``U`` units of a layer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor
from torch.overrides import TorchFunctionMode

from defib.probe.calls import Call as Noted

Product = Callable[[Tensor, Tensor | None, Tensor], Tensor]
"""(weight, bias, features) to pre-activations: linear in weight with bias, and in the features."""

_CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}


@dataclass(frozen=True, kw_only=True)
class Use:
    """One product of a layer's weights with what feeds it.

    Attributes:
        weight: The weight; units along its first axis.
        bias: The bias, shape (U,); None without one.
        features: What it is multiplied with, samples along the first axis.
        product: How.
        axis: Unit axis of the result.
        means: Axes of the features over which their mean is taken when they are centred.
        divisible: Some rows of the weight give just these units of the result.
    """

    weight: Tensor
    bias: Tensor | None
    features: Tensor
    product: Product
    axis: int
    means: tuple[int, ...]
    divisible: bool = True

    @property
    def units(self) -> int:
        """U."""
        return int(self.weight.shape[0])

    @property
    def samples(self) -> int:
        """Samples of the batch."""
        return int(self.features.shape[0]) if self.features.ndim > 1 else 1

    def double(self) -> "Use":
        """The same in float64, in which differences of float32 numbers are exact."""
        bias = None if self.bias is None else self.bias.double()
        return replace(self, weight=self.weight.double(), bias=bias, features=self.features.double())

    def rows(self, weight: Tensor, bias: Tensor | None, features: Tensor, units: Tensor) -> Tensor:
        """The product for some units, shape (N, K)."""
        if not self.divisible:
            found = self.product(weight, bias, features).movedim(self.axis, -1)
            return found.reshape(-1, self.units)[:, units]
        some = None if bias is None else bias[units]
        found = self.product(weight[units], some, self._for(features, units)).movedim(self.axis, -1)
        return found.reshape(-1, len(units))

    def _for(self, features: Tensor, units: Tensor) -> Tensor:
        """The features that these units see: each its own where the weight is a mere scale."""
        return features.index_select(self.axis, units) if self.weight.ndim == 1 else features


class Products(TorchFunctionMode):
    """Notes the products of a model's own weights.

    Args:
        names: For the id of each parameter in use, its name.
        wanted: Paths of the layers to note; None for all.

    Attributes:
        uses: By path, in the order of the calls.
    """

    def __init__(self, names: Mapping[int, str], wanted: Iterable[str] | None) -> None:
        super().__init__()
        self.uses: dict[str, list[Use]] = {}
        self._names = names
        self._wanted = None if wanted is None else frozenset(wanted)

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        options = kwargs or {}
        name = getattr(func, "__name__", "")
        read = _READERS.get(name)
        if read is not None:
            call = Noted(name=name, where="", arguments=args, options=options)
            with torch._C.DisableTorchFunction(), torch.no_grad():
                self._note(call, func, read)
        return func(*args, **options)

    def _note(self, call: Noted, func: Callable[..., Any], read: "Reader") -> None:
        at = 3 if call.name == "batch_norm" else 2 if call.name in _SCALES else 1
        weight, bias = call.argument(at, "weight"), call.argument(at + 1, "bias")
        name = self._names.get(id(weight)) or self._names.get(id(bias), "")
        path = name.rpartition(".")[0]
        if not isinstance(weight, Tensor) or not name or weight.ndim not in _DIMENSIONS[call.name]:
            return
        if self._wanted is None or path in self._wanted:
            self.uses.setdefault(path, []).append(read(call, func, weight, bias))


Reader = Callable[[Noted, Callable[..., Any], Tensor, Tensor | None], Use]


def _linear(call: Noted, func: Callable[..., Any], weight: Tensor, bias: Tensor | None) -> Use:
    features = call.argument(0, "input").detach().clone()
    return Use(
        weight=weight.detach(),
        bias=None if bias is None else bias.detach(),
        features=features,
        product=lambda w, b, h: func(h, w, b),
        axis=-1,
        means=tuple(range(features.ndim - 1)),
    )


def _convolution(call: Noted, func: Callable[..., Any], weight: Tensor, bias: Tensor | None) -> Use:
    features = call.argument(0, "input").detach().clone()
    if features.ndim == weight.ndim - 1:
        features = features[None]  # a single image without a batch
    rest, options = call.arguments[3:], {k: v for k, v in call.options.items() if k not in _TENSORS}
    return Use(
        weight=weight.detach(),
        bias=None if bias is None else bias.detach(),
        features=features,
        product=lambda w, b, h: func(h, w, b, *rest, **options),
        axis=1,
        means=(0, *range(2, features.ndim)),
        divisible=call.argument(6, "groups", 1) == 1,
    )


_TENSORS = {"input", "weight", "bias"}


def _scale(call: Noted, func: Callable[..., Any], weight: Tensor, bias: Tensor | None) -> Use:
    """A normalisation: its scale and shift are the weights, what it scales are the features."""
    del func
    x = call.argument(0, "input").detach().double()
    axis = 1
    if call.name == "batch_norm":
        training = bool(call.argument(5, "training", False))
        running = [None if training else _copied(call.argument(i, n)) for i, n in ((1, "running_mean"),
                   (2, "running_var"))]  # fmt: skip
        eps = call.argument(7, "eps", 1e-5)
        features = F.batch_norm(x, running[0], running[1], None, None, training, 0.0, eps)
    elif call.name == "group_norm":
        features = F.group_norm(x, call.argument(1, "num_groups"), None, None, call.argument(4, "eps", 1e-5))
    else:
        axis = x.ndim - 1
        shape = call.argument(1, "normalized_shape")
        features = F.layer_norm(x, shape, None, None, call.argument(4, "eps", 1e-5))
    tail = (1,) * (features.ndim - 1 - axis)

    def product(w: Tensor, b: Tensor | None, h: Tensor) -> Tensor:
        scaled = h * w.view(-1, *tail)
        return scaled if b is None else scaled + b.view(-1, *tail)

    return Use(
        weight=weight.detach(),
        bias=None if bias is None else bias.detach(),
        features=features,
        product=product,
        axis=axis,
        means=tuple(i for i in range(features.ndim) if i != axis),
    )


def _copied(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().double()


_SCALES = {"batch_norm", "group_norm", "layer_norm"}
_DIMENSIONS = {**dict.fromkeys(_SCALES, (1,)), **dict.fromkeys(_CONVOLUTIONS, (3, 4, 5)), "linear": (2,)}
_READERS: dict[str, Reader] = {
    "linear": _linear,
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    **dict.fromkeys(_SCALES, _scale),
}
