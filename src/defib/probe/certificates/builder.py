"""From a node of the graph to the step that bounds it."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from defib.probe.certificates import meeting, normed, weighted
from defib.probe.certificates.bends import Activated, Pooled, Rising
from defib.probe.certificates.curves import bent
from defib.probe.certificates.linear import Copying
from defib.probe.certificates.place import Place
from defib.probe.certificates.steps import Step

_COPIES = frozenset(
    [
        "view",
        "_unsafe_view",
        "reshape",
        "permute",
        "transpose",
        "t",
        "expand",
        "squeeze",
        "unsqueeze",
        "slice",
        "select",
        "clone",
        "alias",
        "detach",
        "cat",
        "stack",
        "flip",
        "roll",
        "repeat",
        "narrow",
        "split",
        "split_with_sizes",
        "chunk",
        "unbind",
        "index_select",
        "lift_fresh_copy",
        "replication_pad1d",
        "replication_pad2d",
        "reflection_pad1d",
        "reflection_pad2d",
        "constant_pad_nd",
        "pixel_shuffle",
        "upsample_nearest1d",
        "upsample_nearest2d",
        "contiguous",
        "movedim",
        "slice_scatter",
        "select_scatter",
        "view_copy",
        "expand_copy",
        "permute_copy",
        "unfold",
    ]
)
_SUMS = frozenset(
    [
        "sum",
        "mean",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
        "_adaptive_avg_pool2d",
        "_adaptive_avg_pool3d",
        "adaptive_avg_pool1d",
        "upsample_bilinear2d",
        "upsample_linear1d",
        "cumsum",
    ]
)
_ACTIVATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "relu": ("relu", ()),
    "sigmoid": ("sigmoid", ()),
    "tanh": ("tanh", ()),
    "silu": ("silu", ()),
    "mish": ("mish", ()),
    "abs": ("abs", ()),
    "exp": ("exp", ()),
    "hardswish": ("hardswish", ()),
    "hardsigmoid": ("hardsigmoid", ()),
    "log_sigmoid_forward": ("logsigmoid", ()),
    "celu": ("celu", ("alpha",)),
    "leaky_relu": ("leaky_relu", ("negative_slope",)),
    "hardtanh": ("hardtanh", ("min_val", "max_val")),
    "clamp": ("clamp", ("min", "max")),
    "clamp_min": ("clamp", ("min",)),
    "clamp_max": ("clamp", ("max",)),
    "softplus": ("softplus", ("beta", "threshold")),
    "softshrink": ("softshrink", ("lambd",)),
    "hardshrink": ("hardshrink", ("lambd",)),
    "threshold": ("relu", ("threshold", "value")),
    "gelu": ("gelu", ("approximate",)),
    "elu": ("elu", ("alpha", "scale", "input_scale")),
}
_EXACT_RISING = frozenset(
    ["maximum", "minimum", "amax", "amin", "max_pool3d_with_indices", "floor", "ceil", "round", "sign"]
)
_RISING = _EXACT_RISING | frozenset(["sqrt", "log", "log1p", "erf", "atan", "asinh", "expm1"])


def build(place: Place) -> Step | None:
    """The step for a node; None if there are no bounds for such an operation."""
    name = place.name
    if not place.dtype.is_floating_point:
        return None
    if name == "log_sigmoid_forward" and place.item != 0:
        return None
    if name in _ACTIVATIONS or name in {"_prelu_kernel", "prelu", "rrelu_with_noise"}:
        return _activation(place)
    special = _SPECIAL.get(name)
    if special is not None:
        return special(place)
    if name in _COPIES:
        return Copying(place.function(), place.parents, 1, place.dtype)
    if name in _SUMS:
        return Copying(place.function(), place.parents, _terms(place), place.dtype)
    if name in {"max", "min"} and place.item in {0, None}:
        return Rising(place.function(), place.parents, place.dtype, exact=True)
    if name in _RISING:
        return Rising(place.function(), place.parents, place.dtype, exact=name in _EXACT_RISING)
    return None


def _activation(place: Place) -> Step | None:
    """An elementwise activation with its constants."""
    if "prelu" in place.name:
        weight = place.argument(1)
        if not isinstance(weight, Tensor) or weight.numel() != 1 or place.argument(0) not in place.varying:
            return None
        shape = bent("leaky_relu", {"negative_slope": float(weight)})
    elif place.name == "rrelu_with_noise":
        lower, upper = place.argument(2, "lower", 1 / 8), place.argument(3, "upper", 1 / 3)
        shape = bent("leaky_relu", {"negative_slope": (float(lower) + float(upper)) / 2})
    else:
        name, fields = _ACTIVATIONS[place.name]
        given: dict[str, Any] = {f: place.argument(i + 1, f) for i, f in enumerate(fields)}
        if "approximate" in given:
            given = {"tanh": float(given["approximate"] == "tanh")}
        if given.pop("value", 0) != 0 or any(isinstance(v, (Tensor, fx.Node)) for v in given.values()):
            return None
        shape = bent(name, {f: float(v) for f, v in given.items() if v is not None})
    return None if shape is None else Activated(place.parents[0], shape, place.dtype)


def _terms(place: Place) -> int:
    """Upper bound of how many numbers a sum or mean adds up."""
    size = int(math.prod(place.node.args[0].meta["val"].shape))  # type: ignore[union-attr]
    if place.name.startswith("avg_pool"):
        kernel = place.argument(1)
        return max(2, math.prod(kernel if isinstance(kernel, (list, tuple)) else [kernel] * 3))
    if place.name.startswith("upsample"):
        return 16
    return max(2, size // max(1, math.prod(place.shape))) * (4 if "adaptive" in place.name else 1)


def _pooled(place: Place) -> Step | None:
    """Max pooling over planes; ``ceil_mode`` has windows that reach out and is left out."""
    size, stride = place.argument(1), place.argument(2, "stride", [])
    padding, dilation = place.argument(3, "padding", [0, 0]), place.argument(4, "dilation", [1, 1])
    if place.item != 0 or place.argument(5, "ceil_mode", False):
        return None
    pairs = [
        [v] * 2 if isinstance(v, int) else list(v) * (2 // len(v))
        for v in (size, stride or size, padding, dilation)
    ]
    return Pooled(place.parents[0], *pairs)


def _chosen(place: Place) -> Step | None:
    given = [place.argument(1), place.argument(2)]
    nodes = tuple(g for g in given if isinstance(g, fx.Node))
    fixed = [torch.as_tensor(g, dtype=torch.float64) for g in given if not isinstance(g, fx.Node)]
    return meeting.Chosen(nodes, fixed, place.shape)


def _power(place: Place) -> Step | None:
    exponent = {"sqrt": 0.5, "rsqrt": -0.5, "reciprocal": -1.0}.get(place.name)
    exponent = place.argument(1) if exponent is None else exponent
    return (
        meeting.Power(place.parents[0], float(exponent), place.dtype)
        if isinstance(exponent, (int, float))
        else None
    )


_SPECIAL: dict[str, Callable[[Place], Step | None]] = {
    "add": weighted.sum_step,
    "sub": weighted.sum_step,
    "rsub": weighted.sum_step,
    "neg": weighted.sum_step,
    "mul": weighted.times_step,
    "div": weighted.over_step,
    "convolution": weighted.convolution_step,
    "mm": weighted.matrix_step,
    "bmm": weighted.matrix_step,
    "addmm": weighted.matrix_step,
    "baddbmm": weighted.matrix_step,
    "matmul": weighted.matrix_step,
    "mv": weighted.matrix_step,
    "dot": weighted.matrix_step,
    "native_batch_norm": normed.batch_norm_step,
    "_native_batch_norm_legit": normed.batch_norm_step,
    "_native_batch_norm_legit_no_training": normed.batch_norm_step,
    "native_layer_norm": normed.layer_norm_step,
    "native_group_norm": normed.group_norm_step,
    "_softmax": normed.softmax_step,
    "embedding": normed.embedding_step,
    "max_pool2d_with_indices": _pooled,
    "where": _chosen,
    "pow": _power,
    "rsqrt": _power,
    "reciprocal": _power,
    "_to_copy": weighted.cast_step,
    "_scaled_dot_product_flash_attention_for_cpu": normed.fused_attention_step,
    "_scaled_dot_product_flash_attention": normed.fused_attention_step,
}
