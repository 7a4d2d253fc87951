"""Bounds hold: random networks of every supported operation, on random domains, attacked with samples."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from bounded_nets import ACTIVATIONS, PLANES, VECTORS, Attack, Functional, shaken
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from defib.core.domain import Box, Domain, Ellipsoid, Everything
from defib.probe.certificates.bends import Activated
from defib.probe.certificates.curves import bent

WIDTH, CHANNELS = 6, 4
seeds = st.integers(0, 2**31 - 1)
domains = st.one_of(
    st.tuples(st.floats(-3, 3), st.floats(0, 4)).map(lambda e: Box(low=e[0], high=e[0] + e[1])),
    st.tuples(st.floats(-2, 2), st.floats(0.01, 3)).map(lambda e: Ellipsoid(center=e[0], axes=e[1])),
)
dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])


def vector_net(kinds: list[str], bends: list[str], seed: int, dtype: torch.dtype) -> nn.Module:
    parts: list[nn.Module] = [nn.Linear(WIDTH, WIDTH)]
    for kind, bend in zip(kinds, bends, strict=False):
        parts += [Functional(ACTIVATIONS[bend]), VECTORS[kind](WIDTH)]
    return shaken(nn.Sequential(*parts), seed).to(dtype)


def plane_net(kinds: list[str], bends: list[str], seed: int, dtype: torch.dtype) -> nn.Module:
    parts: list[nn.Module] = [nn.Conv2d(2, CHANNELS, 3, padding=1)]
    for kind, bend in zip(kinds, bends, strict=False):
        parts += [Functional(ACTIVATIONS[bend]), PLANES[kind](CHANNELS)]
    return shaken(nn.Sequential(*parts, nn.AdaptiveAvgPool2d(2), nn.Flatten()), seed).to(dtype)


def broken(attack: Attack, seed: int, rounds: int = 4) -> list[str]:
    assert not attack.bounds.unsupported
    return [e for i in range(rounds) for e in attack.escapes(attack.inside(seed + i))]


several = st.lists(st.sampled_from(sorted(ACTIVATIONS)), min_size=3, max_size=3)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(sorted(VECTORS)), min_size=1, max_size=3), several, domains, dtypes, seeds)
def test_no_sample_leaves_the_bounds_of_a_network_of_vectors(
    kinds: list[str], bends: list[str], domain: Domain, dtype: torch.dtype, seed: int
) -> None:
    model = vector_net(kinds, bends, seed, dtype)
    assert broken(Attack(model, torch.zeros(1, WIDTH, dtype=dtype), domain), seed) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(sorted(PLANES)), min_size=1, max_size=3), several, domains, dtypes, seeds)
def test_no_sample_leaves_the_bounds_of_a_network_of_planes(
    kinds: list[str], bends: list[str], domain: Domain, dtype: torch.dtype, seed: int
) -> None:
    model = plane_net(kinds, bends, seed, dtype)
    attack = Attack(model, torch.zeros(1, 2, 5, 5, dtype=dtype), domain, batch=16)
    assert broken(attack, seed, rounds=2) == []


@pytest.mark.parametrize("bend", sorted(ACTIVATIONS))
def test_every_activation_keeps_its_bounds_and_those_are_not_empty_words(bend: str) -> None:
    model = vector_net(["linear", "linear"], [bend, bend], 3, torch.float64)
    attack = Attack(model, torch.zeros(1, WIDTH, dtype=torch.float64), Box(low=-1.0, high=1.0), batch=512)
    assert broken(attack, 0, rounds=8) == []
    known = attack.bounds.known[attack.one.outputs[0]]
    seen = attack.sender.send([attack.inside(1)]).outputs[0]
    width = (known.high - known.low).mean() / (seen.amax(0) - seen.amin(0)).mean()
    assert 1.0 <= float(width) < 30


@pytest.mark.parametrize("kind", sorted(VECTORS))
def test_every_operation_on_vectors_keeps_its_bounds(kind: str) -> None:
    for seed in range(6):
        model = vector_net([kind, "linear"], ["relu", "tanh"], seed, torch.float32)
        assert broken(Attack(model, torch.zeros(1, WIDTH), Box(low=-2.0, high=1.0)), seed) == []


@pytest.mark.parametrize("kind", sorted(PLANES))
def test_every_operation_on_planes_keeps_its_bounds(kind: str) -> None:
    for seed in range(3):
        model = plane_net([kind, "conv"], ["relu", "relu"], seed, torch.float32)
        attack = Attack(model, torch.zeros(1, 2, 5, 5), Box(low=-1.0, high=1.0), batch=32)
        assert broken(attack, seed) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(sorted(VECTORS)), min_size=1, max_size=2), several, seeds)
def test_bounds_for_every_input_hold_far_out(kinds: list[str], bends: list[str], seed: int) -> None:
    model = vector_net(kinds, bends, seed, torch.float64)
    attack = Attack(model, torch.zeros(1, WIDTH, dtype=torch.float64), Everything())
    noise = torch.Generator().manual_seed(seed)
    for scale in (1e-3, 1.0, 1e3):
        x = torch.randn(64, WIDTH, generator=noise, dtype=torch.float64) * scale
        assert attack.escapes(x) == []


def test_gradient_ascent_does_not_leave_the_bounds_and_comes_near_to_them() -> None:
    near = []
    for seed in range(6):
        parts = [nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU()]
        model = shaken(nn.Sequential(*parts), seed)
        attack = Attack(model, torch.zeros(1, 8), Box(low=0.0, high=1.0))
        for node in range(3):
            for unit in range(0, 16, 5):
                for sign in (1.0, -1.0):
                    x = attack.climb(node, unit, seed, sign=sign)
                    assert attack.escapes(x) == []
                    z = attack.sender.send([x]).arguments[node][:, unit].double()
                    steps = list(attack.bounds.known)
                    known = attack.bounds.known[steps[1 + 2 * node]]
                    top = known.high[0, unit] if sign > 0 else -known.low[0, unit]
                    near.append(float(((sign * z).max() - top).abs() / (known.high - known.low)[0, unit]))
    assert max(near[:4]) < 1e-4  # the first layer's bounds are attained at a corner
    assert sum(near) / len(near) < 0.4


def test_the_first_layer_on_a_box_and_on_a_ball_is_exact() -> None:
    model = shaken(nn.Sequential(nn.Linear(5, 7), nn.ReLU()), 1).double()
    weight, bias = model[0].weight, model[0].bias
    sample = torch.zeros(1, 5, dtype=torch.float64)
    box = Attack(model, sample, Box(low=-0.5, high=2.0)).bounds
    z = next(n for n in box.known if n.name == "addmm")
    exact = (weight.clamp(min=0) * 2.0 + weight.clamp(max=0) * -0.5).sum(1) + bias
    assert torch.allclose(box.known[z].high[0], exact, rtol=1e-12)
    ball = Attack(model, sample, Ellipsoid(center=1.0, axes=0.3)).bounds
    z = next(n for n in ball.known if n.name == "addmm")
    found = ball.upper(z, torch.eye(7, dtype=torch.float64).unsqueeze(1)).computed
    assert torch.allclose(found, weight.sum(1) + 0.3 * weight.norm(dim=1) + bias, rtol=1e-12)


def test_a_linear_layer_behind_a_layer_norm_is_bounded_by_the_sphere_and_some_input_attains_it() -> None:
    d = 16
    model = shaken(nn.Sequential(nn.LayerNorm(d, eps=0.0), nn.Linear(d, 9), nn.ReLU()), 2).double()
    norm, linear = model[0], model[1]
    attack = Attack(model, torch.zeros(1, d, dtype=torch.float64), Everything())
    z = next(n for n in attack.bounds.known if n.name == "addmm")
    spread = linear.weight * norm.weight
    spread = spread - spread.mean(1, keepdim=True)
    sphere = math.sqrt(d) * spread.norm(dim=1) + linear.weight @ norm.bias + linear.bias
    assert torch.allclose(attack.bounds.known[z].high[0], sphere, rtol=1e-9)
    assert torch.allclose(linear(norm(spread)).diagonal(), sphere, rtol=1e-12)


def test_linear_bounds_are_tighter_than_intervals_where_activations_cancel() -> None:
    model = nn.Sequential(
        nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False), nn.ReLU()
    ).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [1.0]]))
        model[2].weight.copy_(torch.tensor([[1.0, -1.0]]))
    attack = Attack(model, torch.zeros(1, 1, dtype=torch.float64), Box(low=0.5, high=1.0))
    z = next(n for n in attack.bounds.known if n.name == "mm_1")
    assert float(attack.bounds.plain[z].high) == pytest.approx(0.5)
    assert float(attack.bounds.known[z].high) == pytest.approx(0.0, abs=1e-6)


def test_a_maximum_is_only_taken_for_one_of_its_entries_where_no_other_can_be_larger() -> None:
    model = Functional(lambda x: torch.relu(F.max_pool2d(x, 2)[..., 0, 0] - x[..., 0, 0]))
    sample = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    for low, exact in ((0.9, 0.1), (1.0, 0.0)):
        ends = torch.tensor([[[low, 0.0], [0.0, 0.0]]]), torch.ones(1, 2, 2)
        attack = Attack(model, sample, Box(low=ends[0].double().numpy(), high=ends[1].double().numpy()))
        z = next(n for n in attack.bounds.known if n.name == "sub")
        assert exact - 1e-7 <= float(attack.bounds.known[z].high) <= exact + 1e-6
        assert broken(attack, 0) == []


MEETINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "square": lambda a, _: a * a,
    "product": lambda a, b: a * b,
    "quotient": lambda a, b: a / (b + 3),
    "quotient by what may be 0": lambda a, b: a / b,
    "power 2": lambda a, _: a**2,
    "power 3": lambda a, _: a**3,
    "root": lambda a, _: (a.abs() + 0.1) ** 0.5,
    "reciprocal": lambda a, _: 1 / (a + 2),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "chosen": lambda a, b: torch.where(a > b, a - 1, b + 1),
    "matrix": lambda a, b: a.unsqueeze(-1) @ b.unsqueeze(-2),
    "attention": lambda a, b: torch.softmax(a.unsqueeze(-1) * 3, 1).transpose(1, 2) @ b.unsqueeze(-1),
    "softmax": lambda a, b: torch.softmax(a + b, -1),
    "largest": lambda a, b: torch.cat([a, b], 1).amax(1, keepdim=True),
    "root mean square": lambda a, _: F.rms_norm(a, (2,)),
}


@pytest.mark.parametrize("name", sorted(MEETINGS))
@pytest.mark.parametrize("low", [-1.0, 0.25, -2.0])
def test_where_two_numbers_meet_bounds_hold_and_are_nearly_attained(name: str, low: float) -> None:
    model = Functional(lambda x: torch.relu(MEETINGS[name](x[:, :2], x[:, 2:])))
    attack = Attack(model, torch.zeros(1, 4, dtype=torch.float64), Box(low=low, high=1.0), batch=4096)
    assert broken(attack, 1) == []
    steps = [s for s in attack.bounds.steps.values() if isinstance(s, Activated)]
    z = steps[-1].parents[0]
    known = attack.bounds.known[z]
    seen = attack.sender.send([attack.inside(1)]).arguments[-1]
    width = known.high - known.low
    if bool(torch.isfinite(width).all()) and name not in {
        "attention",
        "softmax",
        "matrix",
        "root mean square",
    }:
        assert float((width / (seen.amax(0) - seen.amin(0))).max()) < (2.1 if name == "chosen" else 1.3)


def test_bounds_of_half_width_models_are_as_wide_as_their_rounding() -> None:
    widths = {}
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        model = vector_net(["linear"], ["relu"], 5, dtype)
        known = Attack(model, torch.zeros(1, WIDTH, dtype=dtype), Box(low=0.5, high=0.5)).bounds.known
        last = list(known.values())[-1]
        widths[dtype] = float((last.high - last.low).max())
    assert widths[torch.float64] < 1e-12
    assert 1e-7 < widths[torch.float32] < 1e-4
    assert 1e-3 < widths[torch.bfloat16] < 2.0


CURVES = {
    "sigmoid": {}, "tanh": {}, "gelu": {}, "silu": {}, "mish": {}, "selu": {}, "logsigmoid": {},
    "hardswish": {}, "elu": {"alpha": 1.7}, "celu": {"alpha": 0.6},
    "softplus": {"beta": 3.0, "threshold": 12.0},
}  # fmt: skip


@pytest.mark.parametrize(("name", "options"), [*CURVES.items(), ("gelu", {"tanh": 1.0})])
def test_the_stated_curvature_and_tails_of_every_activation_are_true(
    name: str, options: dict[str, float]
) -> None:
    shape = bent(name, options)
    assert shape is not None
    z = np.linspace(-60, 60, 480_001)
    step = z[1] - z[0]
    away = np.all([np.abs(z - b) > 2 * step for b in shape.curve.breaks] or [z == z], axis=0)
    second = np.gradient(np.gradient(shape.values(z), step), step)[away]
    assert np.abs(second[4:-4]).max() <= shape.curve.curvature + 1e-5
    reach, tail = shape.curve.reach, shape.curve.tail
    for side in (-1, 1):
        far = side * (reach + np.linspace(0, 100, 1001))
        found = shape.values(far)
        slope = (found[-1] - found[0]) / (far[-1] - far[0])
        assert np.abs(found - found[0] - slope * (far - far[0])).max() <= 2 * tail + 1e-13 * np.abs(far).max()
