"""Steps for sums, differences and products."""

import math
from typing import Any

import torch
from torch import Tensor, fx

from defib.probe.certificates import meeting
from defib.probe.certificates.linear import Difference, Product
from defib.probe.certificates.norms import Normalised
from defib.probe.certificates.place import Function, Place
from defib.probe.certificates.steps import Step
from defib.probe.certificates.tracing import named


def sum_step(place: Place) -> Step | None:
    """add, sub, rsub and neg."""
    name = place.name
    alpha = place.node.kwargs.get("alpha", place.argument(2) if len(place.node.args) > 2 else 1)
    if not isinstance(alpha, (int, float)):
        return None
    signs = {"add": (1, alpha), "sub": (1, -alpha), "rsub": (-alpha, 1), "neg": (-1, 1)}[name]
    first, second = place.node.args[0], place.node.args[1] if name != "neg" else None
    if first is second:
        return (
            None
            if name != "add"
            else Difference(place.function(), place.parents, (1 + alpha,), place.dtype, True)
        )
    found = [s for s, a in zip(signs, (first, second), strict=True) if a in place.varying]
    return Difference(place.function(), place.parents, found, place.dtype, plain=abs(alpha) == 1)


def times_step(place: Place) -> Step:
    """mul: by something fixed, or of two that vary."""
    both = [a in place.varying for a in place.node.args[:2]]
    if all(both):
        return meeting.Multiplied(
            tuple(a for a in place.node.args[:2] if isinstance(a, fx.Node)), place.dtype
        )
    factor = torch.as_tensor(place.argument(0 if both[1] else 1), dtype=torch.float64)
    return _scaled(place, place.parents[0], factor, None)


def over_step(place: Place) -> Step | None:
    """div: by something fixed it is a product (and one rounding more)."""
    if len(place.node.args) > 2 or place.node.kwargs:
        return None
    below = place.argument(1)
    if not isinstance(below, fx.Node):
        factor = 1.0 / torch.as_tensor(below, dtype=torch.float64)
        return _scaled(place, place.parents[0], factor, None) if torch.isfinite(factor).all() else None
    above = place.argument(0)
    top = None if isinstance(above, fx.Node) else torch.as_tensor(above, dtype=torch.float64)
    nodes = tuple(a for a in place.node.args if isinstance(a, fx.Node) and a in place.varying)
    return meeting.Divided(nodes, top, place.dtype)


def _scaled(place: Place, parent: fx.Node, factor: Tensor, bias: Tensor | None) -> Product:
    """An elementwise product, shapes stretched."""
    before = math.prod(parent.meta["val"].shape)
    spread = 1 + math.prod(place.shape) // max(1, before)
    return Product(
        lambda x, w: x * w, parent, factor, bias, terms=4, spread=spread, dtype=place.dtype, local=True
    )


def convolution_step(place: Place) -> Step | None:
    """A convolution of any dimension, transposed or not, with fixed kernel."""
    if place.node.args[0] not in place.varying or any(a in place.varying for a in place.node.args[1:3]):
        return None
    weight, bias = place.argument(1), place.argument(2)
    stride, padding, dilation, is_transposed, output_padding, groups = place.node.args[3:9]
    rest = (stride, padding, dilation, is_transposed, output_padding, groups)
    shape = None if bias is None else bias.reshape(1, -1, *[1] * (weight.dim() - 2))
    inner, outer = int(weight[0].numel()), int(weight.numel() // weight.shape[1])
    convolve = torch.ops.aten.convolution

    def forward(x: Tensor, w: Tensor) -> Tensor:
        return convolve(x, w, None, *rest)  # type: ignore[no-any-return]

    def back(rows: Tensor, x: Tensor) -> Tensor:
        many = rows.flatten(0, 1)
        like = x.expand(len(many), *x.shape[1:])
        found = torch.ops.aten.convolution_backward(many, like, weight, None, *rest, [True, False, False])[0]
        return found.reshape(len(rows), *x.shape)  # type: ignore[no-any-return]

    most = max(inner, outer)
    return Product(
        forward, place.parents[0], weight, shape, terms=most, spread=most, dtype=place.dtype, transpose=back
    )


def matrix_step(place: Place) -> Step | None:
    """mm, bmm, addmm, baddbmm, matmul, mv: with one fixed factor, or as a product of intervals."""
    adds = place.name in {"addmm", "baddbmm"}
    first = 1 if adds else 0
    bias = place.argument(0) if adds else None
    if isinstance(bias, fx.Node) or (adds and place.node.kwargs):
        return None
    nodes = place.node.args[first : first + 2]
    both = [n in place.varying for n in nodes]
    terms = int(nodes[0].meta["val"].shape[-1])  # type: ignore[union-attr]
    if all(both):
        mix = _attention(place, nodes)
        return mix if bias is None or mix is None else None
    fixed = place.argument(first + (1 if both[0] else 0))
    product: Function = (lambda x, w: x @ w) if both[0] else (lambda x, w: w @ x)
    spread = int(fixed.shape[-1] if both[0] else fixed.shape[-2] if fixed.dim() > 1 else 1)
    return Product(product, place.parents[0], fixed, bias, terms=terms, spread=spread, dtype=place.dtype)


def _attention(place: Place, nodes: Any) -> Step:
    """A product of two that vary; with softmax weights it is a mean of the other's rows."""
    source = nodes[0]
    while named(source) in {"view", "expand", "clone", "_unsafe_view", "alias", "detach"} and (
        source.args[0].meta["val"].shape[-1] == source.meta["val"].shape[-1]
    ):
        source = source.args[0]
    last = source.meta["val"].dim() - 1
    if named(source) == "_softmax" and source.args[1] in {-1, last}:
        return meeting.Mixed(nodes[1], place.shape, with_zero=False, dtype=place.dtype)
    return meeting.MatrixProduct(tuple(nodes), place.dtype)


def cast_step(place: Place) -> Step | None:
    """A change of format: the identity, rounded once."""
    if not place.dtype.is_floating_point:
        return None
    return Product(
        lambda x, w: x * w,
        place.parents[0],
        torch.ones((), dtype=torch.float64),
        None,
        terms=1,
        spread=1,
        dtype=place.dtype,
    )


def _root_mean_square(place: Place) -> Step | None:
    """RMSNorm as a graph spells it: x rsqrt(mean(x^2) + eps)."""
    for x, root in (place.node.args[:2], place.node.args[1::-1]):
        chain: list[fx.Node] = []
        here = root
        while isinstance(here, fx.Node) and here is not x and len(chain) < 5:
            chain.append(here)
            here = here.args[0]
        if [named(n) for n in chain] != ["rsqrt", "add", "mean", "pow"] or here is not x:
            continue
        _, plus, mean, power = chain
        dims = mean.args[1] if len(mean.args) > 1 else None
        epsilon, kept = plus.args[1], len(mean.args) > 2 and mean.args[2] is True
        if not (isinstance(x, fx.Node) and isinstance(dims, (list, tuple)) and kept and power.args[1] == 2):
            continue
        first = len(place.shape) - len(dims)
        last = sorted(int(d) % len(place.shape) for d in dims if isinstance(d, int))
        if (
            last == list(range(first, len(place.shape)))
            and isinstance(epsilon, (int, float))
            and epsilon >= 0
        ):
            d = math.prod(place.shape[first:])
            ones = torch.ones(place.shape, dtype=torch.float64)
            groups = (math.prod(place.shape) // d, d)
            return Normalised(x, groups, ones, torch.zeros_like(ones), centred=False, dtype=place.dtype)
    return None
