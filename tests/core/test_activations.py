"""Every entry of the activation catalogue against autograd, the only authority."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import integrate

from defib.core.activation import Activation
from defib.core.activation_index import activation_named, activation_of, activations
from defib.core.precision import above, below

Call = Callable[[torch.Tensor], torch.Tensor]

CALLS: dict[str, tuple[tuple[str, Call], ...]] = {
    "relu": (
        ("torch.relu", torch.relu),
        ("relu_", lambda z: F.relu_(z * 1)),
        ("threshold", lambda z: F.threshold(z, 0.3, 0.0)),
        ("threshold_", lambda z: F.threshold(z * 1, 0.7, 0.0, inplace=True)),
    ),
    "leaky_relu": (
        ("leaky_relu", lambda z: F.leaky_relu(z, 0.01)),
        ("leaky_relu_", lambda z: F.leaky_relu_(z * 1, 0.2)),
        ("leaky_relu slope 0", lambda z: F.leaky_relu(z, 0.0)),
    ),
    "prelu": (("prelu", lambda z: F.prelu(z, torch.full((1,), 0.25, dtype=z.dtype, requires_grad=True))),),
    "rrelu": (("rrelu eval", F.rrelu),),
    "elu": (
        ("elu", F.elu),
        ("elu 1.5", lambda z: F.elu(z, 1.5)),
        ("elu_", lambda z: F.elu_(z * 1)),
    ),
    "selu": (("selu", F.selu), ("selu_", lambda z: torch.selu_(z * 1))),
    "celu": (
        ("celu", F.celu),
        ("celu 2", lambda z: F.celu(z, 2.0)),
        ("celu_", lambda z: torch.celu_(z * 1, 1.0)),
    ),
    "gelu": (("gelu", F.gelu), ("gelu tanh", lambda z: F.gelu(z, approximate="tanh"))),
    "silu": (("silu", F.silu), ("silu_", lambda z: F.silu(z * 1, inplace=True))),
    "mish": (("mish", F.mish),),
    "softplus": (("softplus", F.softplus), ("softplus 2", lambda z: F.softplus(z, 2.0))),
    "tanh": (("tanh", torch.tanh), ("tanh_", lambda z: (z * 1).tanh_())),
    "sigmoid": (("sigmoid", torch.sigmoid),),
    "logsigmoid": (("logsigmoid", F.logsigmoid),),
    "hardtanh": (
        ("hardtanh", F.hardtanh),
        ("relu6", F.relu6),
        ("relu6_", lambda z: F.relu6(z * 1, inplace=True)),
        ("hardtanh .3", lambda z: F.hardtanh(z, -0.3, 0.7)),
    ),
    "hardsigmoid": (("hardsigmoid", F.hardsigmoid),),
    "hardswish": (("hardswish", F.hardswish),),
    "clamp": (
        ("clamp both", lambda z: z.clamp(-1.0, 1.0)),
        ("clamp(min=0)", lambda z: z.clamp(min=0.0)),
        ("clamp_min", lambda z: z.clamp_min(0.0)),
        ("clamp_max", lambda z: z.clamp_max(0.1)),
        ("clamp .3", lambda z: z.clamp(-0.3, 0.7)),
    ),
    "exp": (("exp", torch.exp),),
    "abs": (("abs", torch.abs),),
    "softmax": (("softmax", lambda z: z.softmax(-1)),),
    "log_softmax": (("log_softmax", lambda z: z.log_softmax(-1)),),
    "maximum": (("maximum", lambda z: torch.maximum(z, torch.zeros_like(z))),),
    "hardshrink": (("hardshrink", F.hardshrink),),
    "softshrink": (("softshrink", F.softshrink),),
}
EVERY = [pytest.param(name, call, id=label) for name, calls in CALLS.items() for label, call in calls]
ROWWISE = {"softmax", "log_softmax"}
NO_LIMITS = {"abs", "hardshrink", "softshrink"}
DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}


def node_facts(h: torch.Tensor) -> tuple[str, dict[str, float]]:
    """Name and numeric constants of the node that made ``h``, as capture reads them."""
    node: Any = h.grad_fn
    options: dict[str, float] = {}
    for attribute in dir(node):
        if attribute.startswith("_saved_"):
            value = getattr(node, attribute)
            if isinstance(value, bool | int | float):
                options[attribute.removeprefix("_saved_")] = float(value)
            elif value == "tanh":
                options["tanh"] = 1.0
    return str(node.name()), options


def known(h: torch.Tensor) -> tuple[Activation, str, dict[str, float]]:
    """The catalogue's entry for the node that made ``h``."""
    operation, options = node_facts(h)
    activation = activation_of(operation, options)
    assert activation is not None, operation
    return activation, operation, options


def slope(call: Call, z: torch.Tensor) -> torch.Tensor:
    z = z.clone().requires_grad_()
    call(z).backward(torch.ones_like(z))
    assert z.grad is not None
    return z.grad


def test_every_entry_of_the_catalogue_is_checked_against_autograd() -> None:
    assert {a.name for a in activations()} == set(CALLS)


def test_every_operation_named_in_the_catalogue_really_appears() -> None:
    z = torch.linspace(-2, 2, 8, requires_grad=True)
    seen = {node_facts(call(z))[0] for calls in CALLS.values() for _, call in calls}
    seen |= {"RreluWithNoiseBackward1"} & {node_facts(F.rrelu(z * 1, training=True, inplace=True))[0]}
    seen |= {node_facts(torch.clamp_max(z, 1.0))[0], node_facts(torch.celu_(z * 1, 2.0))[0]}
    assert {o for a in activations() for o in a.operations} - seen == set()


@pytest.mark.parametrize(("name", "call"), EVERY)
def test_the_node_is_recognised_as_this_activation(name: str, call: Call) -> None:
    activation, operation, _ = known(call(torch.linspace(-2, 2, 8, requires_grad=True)))
    assert activation.name == name
    assert activation.saved(operation) in {"self", "result"}
    assert activation_named(name) is activation


@pytest.mark.parametrize(("name", "call"), EVERY)
def test_forward_and_derivative_equal_autograd_kinks_included(name: str, call: Call) -> None:
    grid = torch.tensor(
        [*np.linspace(-9, 9, 181), 0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 6.0, 0.1, -0.3, 0.7],
        dtype=torch.float64,
    )
    h = call(grid.clone().requires_grad_())
    activation, _, options = known(h)
    np.testing.assert_allclose(activation.forward(grid.numpy(), options), h.detach().numpy(), atol=1e-12)
    if name in ROWWISE:
        truth = torch.autograd.functional.jacobian(call, grid).diagonal()
    else:
        truth = slope(call, grid)
    np.testing.assert_allclose(activation.derivative(grid.numpy(), options), truth.numpy(), atol=1e-12)


def every_half(dtype: torch.dtype) -> torch.Tensor:
    bits = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)
    return bits[torch.isfinite(bits)]


def around(edges: list[float], dtype: str) -> torch.Tensor:
    """A grid over the line, dense beside each edge; whole vector registers of it."""
    points = list(np.linspace(-120, 120, 4801)) + list(np.linspace(-800, 800, 1600))
    for edge in edges:
        if math.isfinite(edge):
            for size in (1e-6, 1e-5, 1e-4, 1e-3):
                points += [edge * (1 - size), edge * (1 + size)]
            points += [edge, above(edge, dtype), below(edge, dtype)]
    points += [points[-1]] * (-len(points) % 64)
    return torch.tensor(points, dtype=torch.float64).to(DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "call"), EVERY)
def test_flat_limits_are_exactly_where_the_derivative_becomes_zero(name: str, call: Call, dtype: str) -> None:
    if name in NO_LIMITS | ROWWISE:
        assert activation_named(name).flat("self", dtype, {}) == Activation.flat(  # type: ignore[union-attr]
            activation_named(name),
            "self",
            dtype,
            {},  # type: ignore[arg-type]
        )
        return
    probe = call(torch.zeros(64, dtype=DTYPES[dtype]).requires_grad_())
    activation, operation, options = known(probe)
    on_z = activation.flat("self", dtype, options)
    z = (
        every_half(DTYPES[dtype])
        if dtype in {"float16", "bfloat16"}
        else around([on_z.low, on_z.high], dtype)
    )
    zero = slope(call, z) == 0
    axes = {activation.saved(operation)} | ({"self"} if name in {"tanh", "sigmoid"} else set())
    for axis in axes:
        limits = activation.flat(axis, dtype, options)
        saved = z if axis == "self" else call(z.clone().requires_grad_()).detach()
        predicted = ((saved <= limits.low) | (saved >= limits.high)) & saved.isfinite()
        truth = zero
        if name == "hardswish":  # the derivative also passes 0 at the single point -1.5
            truth = truth & (z != -1.5)
        if name == "gelu":  # the tanh form overflows to NaN at huge bfloat16 values
            predicted &= ~slope(call, z).isnan()
        if axis == "self" and dtype in {"float32", "float64"} and name not in PIECEWISE:
            # the vectorised exp and erf differ in the last bits between machines
            edge = torch.tensor([e for e in (limits.low, limits.high) if math.isfinite(e)] or [0.0])
            close = ((z.double()[:, None] - edge[None]).abs() < 2e-6 * edge.abs()).any(1)
            truth, predicted = truth[~close], predicted[~close]
        assert truth.any() == predicted.any()
        assert torch.equal(truth, predicted), (axis, int((truth != predicted).sum()), limits)


PIECEWISE = {
    "relu",
    "leaky_relu",
    "hardtanh",
    "hardsigmoid",
    "hardswish",
    "clamp",
    "maximum",
    "prelu",
    "rrelu",
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "call"), EVERY)
def test_saturated_limits_are_where_the_derivative_is_below_one_percent(
    name: str, call: Call, dtype: str
) -> None:
    if name in NO_LIMITS | ROWWISE | {"exp"}:
        return
    z = torch.linspace(-30, 30, 6400, dtype=DTYPES[dtype])
    h = call(z.clone().requires_grad_())
    activation, operation, options = known(h)
    size = slope(call, z).abs()
    axis = activation.saved(operation)
    limits = activation.saturated(axis, dtype, options)
    saved = z if axis == "self" else h.detach()
    predicted = (saved <= limits.low) | (saved >= limits.high)
    small = size < 0.01 * size.max()
    if not predicted.any():
        assert not small[(z < -0.01) | (z > 0.01)].any() or name == "leaky_relu"
        return
    outer = (z < -2) | (z > 2) if name in {"gelu", "silu", "mish", "hardswish"} else z == z
    wrong = (predicted != small) & outer
    assert wrong.sum() <= 2, z[wrong]  # a grid point may fall on the edge itself


@pytest.mark.parametrize("name", sorted(set(CALLS) - ROWWISE))
def test_backward_gain_is_the_quadrature_of_the_squared_derivative(name: str) -> None:
    activation = activation_named(name)
    assert activation is not None

    def integrand(z: float) -> float:
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return float(activation.derivative(np.array(z))) ** 2 * density

    edges = [-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0]
    mean = integrate.quad(integrand, -12, 12, points=edges, limit=400)[0]
    assert activation.backward_gain == pytest.approx(1 / math.sqrt(mean), abs=6e-5)


def test_a_clamp_with_one_bound_is_not_bounded() -> None:
    clamp = activation_named("clamp")
    assert clamp is not None
    assert not clamp.is_bounded({"min": 0.0})
    assert clamp.is_bounded({"min": 0.0, "max": 6.0})


def test_a_leaky_relu_can_die_only_with_slope_zero() -> None:
    leaky = activation_named("leaky_relu")
    assert leaky is not None
    assert leaky.may_die({"negative_slope": 0.0})
    assert not leaky.may_die({"negative_slope": 0.01})


@pytest.mark.parametrize("dtype", DTYPES)
def test_neighbours_on_the_grid_have_nothing_between_them(dtype: str) -> None:
    kind = DTYPES[dtype]
    for x in (0.0, 1.0, -1.0, 0.1, 1e-7, -3.0, math.inf, -math.inf):
        here = torch.tensor(x, dtype=torch.float64).to(kind)
        if dtype == "bfloat16" or math.isinf(x):
            continue
        assert above(x, dtype) == float(torch.nextafter(here, torch.tensor(math.inf, dtype=kind)))
        assert below(x, dtype) == float(torch.nextafter(here, torch.tensor(-math.inf, dtype=kind)))
    if dtype == "bfloat16":
        every = torch.unique(every_half(kind).double())
        for i in range(1, len(every) - 1, 97):
            assert below(float(every[i]), dtype) == float(every[i - 1])
            assert above(float(every[i]), dtype) == float(every[i + 1])
    assert below(-math.inf, dtype) == -math.inf
    assert above(math.inf, dtype) == math.inf
